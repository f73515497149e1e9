#!/usr/bin/env bash
# Builds the images of toolfleet: `worker` (the program toolfleet-worker) and `toolfleet` (the command, for a gateway or a console).
#
#   infra/image/build.sh [--out DIR] [--program FILE] [--most-mb N] worker|toolfleet
#
# An image holds one static program, the licences of what is in it, certificates and a user, and nothing else. The same program, certificates and buildah give the same digest.
# Writes to DIR (target/image): NAME.oci.tar, NAME.cdx.json (the program's dependencies as CycloneDX), NAME.digest.
#   --program FILE   this program, which must be static, instead of a release build
#   --most-mb N      the largest image (25)
# Needs cargo, a C compiler, python3 (3.11 or later) with venv, buildah, and the certificates of the system.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly HERE=infra/image

fail() { echo "build.sh: $*" >&2; exit 1; }

out=target/image program= name= most_mb=25
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=${2:?"--out needs a folder"}; shift 2 ;;
    --program) program=${2:?"--program needs a file"}; shift 2 ;;
    --most-mb) most_mb=${2:?"--most-mb needs a number"}; shift 2 ;;
    worker | toolfleet) name=$1; shift ;;
    *) fail "unknown argument '$1'; give worker or toolfleet" ;;
    esac
done
case $name in
worker) package=toolfleet-worker ;;
toolfleet) package=toolfleet ;;
*) fail "which image? give worker or toolfleet" ;;
esac
command -v buildah >/dev/null || fail "needs buildah: apt-get install buildah"
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ -s "$certificates" ] || fail "no certificates in $certificates: apt-get install ca-certificates, or set SSL_CERT_FILE"

if [ -z "$program" ]; then
    # Paths of this machine are not part of the program.
    registry=${CARGO_HOME:-$HOME/.cargo}
    RUSTC_WRAPPER=$PWD/$HERE/static-rustc CARGO_INCREMENTAL=0 \
        RUSTFLAGS="--remap-path-prefix=$PWD=/toolfleet --remap-path-prefix=$registry=/cargo" \
        cargo build --release --locked --target-dir target/image-build -p "$package" --bin "$package"
    program=target/image-build/release/$package
fi

mkdir -p "$out"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/rootfs/etc/ssl/certs"
install -m 0555 "$program" "$root/rootfs/$package"
strip --strip-all "$root/rootfs/$package"
# A program with an interpreter needs a C library, which the image has not.
if readelf --program-headers "$root/rootfs/$package" | grep -q INTERP; then
    fail "$program is not static; build it with RUSTC_WRAPPER=$HERE/static-rustc"
fi
install -m 0444 "$certificates" "$root/rootfs/etc/ssl/certs/ca-certificates.crt"
echo 'toolfleet:x:65532:65532::/:/sbin/nologin' >"$root/rootfs/etc/passwd"
echo 'toolfleet:x:65532:' >"$root/rootfs/etc/group"
# Names are looked up in /etc/hosts, then by DNS: what else the C library may ask needs files of its own.
echo 'hosts: files dns' >"$root/rootfs/etc/nsswitch.conf"
chmod -R u=rwX,go=rX "$root/rootfs"
chmod 0555 "$root/rootfs/$package"

venv=$HERE/.image/venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
if ! cmp --silent "$HERE/requirements.lock" "$venv/installed.txt"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$HERE/requirements.lock"
    cp "$HERE/requirements.lock" "$venv/installed.txt"
fi
"$venv/bin/python" "$HERE/sbom.py" "$package" "$out/$name.cdx.json" "$root/rootfs/NOTICE"
chmod 0444 "$root/rootfs/NOTICE"

version=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c \
    'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == sys.argv[1]))' "$package")
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
rm -f "$out/$name.oci.tar"
buildah bud --quiet --timestamp 0 --label "org.opencontainers.image.version=$version" \
    --label org.opencontainers.image.title="$package" \
    --file "$HERE/$name.Containerfile" --tag "localhost/$package:$version" "$root" >/dev/null
buildah push --quiet --digestfile "$out/$name.digest" "localhost/$package:$version" "oci-archive:$out/$name.oci.tar:$version" >/dev/null

bytes=$(stat --format %s "$out/$name.oci.tar")
[ "$bytes" -le $((most_mb * 1000 * 1000)) ] || fail "the image has $bytes bytes, more than $most_mb MB"
# The templates of ECS take ARM64 unless they are told otherwise.
case $(readelf --file-header "$root/rootfs/$package" | sed -n 's/^ *Machine: *//p') in
AArch64) architecture=ARM64 ;;
*X86-64*) architecture=X86_64 ;;
*) fail "$program is for a processor that ECS has not" ;;
esac
echo "$name: localhost/$package:$version, $(cat "$out/$name.digest"), $((bytes / 1000 / 1000)) MB, for $architecture: deploy it with CpuArchitecture=$architecture"
