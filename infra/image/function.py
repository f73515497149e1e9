"""Packs the program of a worker for AWS Lambda: `function.py [--architecture arm64|x86_64] PROGRAM ZIP`. The same program gives the same file.

The architecture is the parameter `Architecture` of lambda.yaml; a program for another one is refused.
"""

import argparse
import sys
import zipfile

# The machine of an ELF program, by the parameter Architecture of lambda.yaml.
MACHINES = {"arm64": 183, "x86_64": 62}


def problem(program, architecture):
    """Why Lambda cannot run the program on that processor; None if it can."""
    if program[:6] != b"\x7fELF\x02\x01":
        return "is no program for 64-bit Linux"
    machine = int.from_bytes(program[18:20], "little")
    if machine != MACHINES[architecture]:
        name = next((name for name, number in MACHINES.items() if number == machine), f"machine {machine}")
        return f"is for {name}, not for {architecture}: build it there, or give --architecture and lambda.yaml's Architecture"
    return None


def pack(program, target):
    # Lambda starts the file of this name, which must be executable.
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr, entry.compress_type = 3, 0o100755 << 16, zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(target, "w") as packed:
        packed.writestr(entry, program, compresslevel=9)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--architecture", choices=MACHINES, default="arm64")
    arguments.add_argument("program")
    arguments.add_argument("zip")
    given = arguments.parse_args()
    with open(given.program, "rb") as file:
        program = file.read()
    if wrong := problem(program, given.architecture):
        sys.exit(f"function.py: {given.program} {wrong}")
    pack(program, given.zip)


if __name__ == "__main__":
    main()
