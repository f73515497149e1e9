"""Packs the program of a worker for AWS Lambda: `function.py PROGRAM ZIP`. The same program gives the same file."""

import sys
import zipfile


def main(program, target):
    # Lambda starts the file of this name, which must be executable.
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr, entry.compress_type = 3, 0o100755 << 16, zipfile.ZIP_DEFLATED
    with open(program, "rb") as file, zipfile.ZipFile(target, "w") as packed:
        packed.writestr(entry, file.read(), compresslevel=9)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
