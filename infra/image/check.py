"""Builds both images from static programs, twice, and runs them: what is in them, as whom they run, from the start to the first poll, one call, SIGTERM.

    check.py FOLDER    the folder has static toolfleet-worker and toolfleet
"""

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "infra" / "image"
BUILDAH = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs")}
GIVE_UP_S = 60
# The largest image of a release build, and of a debug build, which only has to show a jump.
MOST_MB = {"worker": 25, "toolfleet": 25}
MOST_DEBUG_MB = {"worker": 40, "toolfleet": 60}
IMAGES = {"worker": "toolfleet-worker", "toolfleet": "toolfleet"}
FILES = {"NOTICE", "etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt"}


def fail(what):
    raise SystemExit(f"FAILED: {what}")


def run(*command, env=BUILDAH):
    done = subprocess.run([str(c) for c in command], env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        fail(f"{' '.join(str(c) for c in command)} ended with {done.returncode}")
    return done.stdout


def timed(what, begun):
    print(f"{what}: {time.monotonic() - begun:.0f} s", flush=True)


def build(name, program, out):
    most_mb = MOST_MB[name] if "release" in program.parts else MOST_DEBUG_MB[name]
    said = run(HERE / "build.sh", "--out", out, "--program", program, "--most-mb", most_mb, name)
    print(said, end="", flush=True)
    wanted = {"aarch64": "ARM64", "x86_64": "X86_64"}[platform.machine()]
    if f"deploy it with CpuArchitecture={wanted}" not in said:
        fail(f"{name}: build.sh does not say which CpuArchitecture the image is for")
    return (out / f"{name}.digest").read_text().strip()


def contents(archive):
    """The configuration of the image, and the entries of its layers."""
    with tarfile.open(archive) as image:
        def blob(digest):
            return image.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")

        index = json.load(image.extractfile("index.json"))
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        entries = []
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"])) as files:
                entries += files.getmembers()
        return json.load(blob(manifest["config"]["digest"])), entries


def build_twice(name, program, folder):
    """The same digest both times, and what is in the image."""
    digests = {build(name, program, folder / f"{name}{n}") for n in range(2)}
    if len(digests) != 1:
        fail(f"{name}: two builds of one program have different digests: {digests}")
    check_contents(name, program.name, folder / f"{name}0")


def check_contents(name, program, out):
    config, entries = contents(out / f"{name}.oci.tar")
    settings = config["config"]
    files = {entry.name.strip("/") for entry in entries if entry.isfile()}
    if files != FILES | {program}:
        fail(f"{name} has other files than it should: {sorted(files ^ (FILES | {program}))}")
    if settings["User"] != "65532:65532" or settings["Entrypoint"] != [f"/{program}"]:
        fail(f"{name}: {settings}")
    open_to_all = [entry.name for entry in entries if entry.uid == 65532 or entry.mode & 0o022]
    if open_to_all:
        fail(f"{name}: its user may write {open_to_all}")
    if any(entry.mtime != 0 for entry in entries):
        fail(f"{name}: a file has a time")


class FirstPoll:
    """Passes connections on to SQS and notes when the first receive comes."""

    def __init__(self, port):
        self.target, self.at, self.listener = port, None, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink in [(client, server), (server, client)]:
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                if self.at is None and b"AmazonSQS.ReceiveMessage" in data:
                    self.at = time.monotonic()
                sink.sendall(data)
        except OSError:
            pass
        sink.close()


def until(what, look):
    end = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.02)
    fail(f"{what} not seen within {GIVE_UP_S} s")


def run_worker(image, bin_dir, folder):
    log = folder / "dev.log"
    dev = subprocess.Popen([bin_dir / "toolfleet", "dev", "--no-worker", "--port-base", "0"], stdout=log.open("w"), stderr=subprocess.STDOUT)
    container = run("buildah", "from", image).strip()
    worker = None
    try:
        until("the endpoints", lambda: "ready;" in log.read_text())
        exports = dict(re.findall(r"^export (\w+)=(.*)$", log.read_text(), re.M))
        proxy = FirstPoll(int(exports["TOOLFLEET_QUEUE_URL"].split(":")[2].split("/")[0]))
        catalog = exports.pop("TOOLFLEET_CATALOG")
        shutil.copy(catalog, folder / "catalog.json")
        settings = {**exports, "TOOLFLEET_CATALOG": "/catalog/catalog.json"}
        # By name: a static program looks names up by itself.
        settings["AWS_ENDPOINT_URL_SQS"] = f"http://localhost:{proxy.port}"
        env = [f"--env={name}={value}" for name, value in settings.items()]
        volume = f"--volume={folder}:/catalog:ro"
        begun = time.monotonic()
        worker = subprocess.Popen(
            ["buildah", "run", volume, *env, container, "--", "/toolfleet-worker"],
            env=BUILDAH, stdout=(folder / "worker.log").open("w"), stderr=subprocess.STDOUT, start_new_session=True,
        )
        until("the first poll", lambda: proxy.at or worker.poll() is not None)
        if proxy.at is None:
            fail(f"the worker ended:\n{(folder / 'worker.log').read_text()[-2000:]}")
        print(f"start of the container to the first poll: {1000 * (proxy.at - begun):.0f} ms", flush=True)
        call = [bin_dir / "toolfleet", "call", "--tenant", "demo", "--tool", "echo", "--arguments", '{"text": "hello"}']
        answer = run(*call, env={**os.environ, **exports})
        if "hello" not in answer:
            fail(f"a call was answered by {answer}")
        process = next(p for p in Path("/proc").glob("[0-9]*") if is_worker(p))
        uids = re.search(r"^Uid:\s+(.*)$", (process / "status").read_text(), re.M)[1].split()
        if set(uids) != {"65532"}:
            fail(f"the worker runs as {uids}")
        os.kill(int(process.name), signal.SIGTERM)
        if worker.wait(GIVE_UP_S) != 0:
            fail(f"the worker ended with {worker.returncode} at SIGTERM")
        worker = None
    finally:
        if worker:
            os.killpg(worker.pid, signal.SIGKILL)
        dev.terminate()
        run("buildah", "rm", container)


def is_worker(process):
    try:
        return (process / "cmdline").read_bytes().split(b"\0")[0] == b"/toolfleet-worker"
    except OSError:
        return False


def check_function(program, folder):
    """The zip file for Lambda: the same twice, and what is in it starts under its name. Without symbols, which take most of the time of a debug program."""
    stripped = folder / "function"
    run("strip", "--strip-all", "-o", stripped, program)
    files = [folder / f"function{n}.zip" for n in range(2)]
    here, other = ("x86_64", "arm64") if platform.machine() == "x86_64" else ("arm64", "x86_64")
    refused = subprocess.run([sys.executable, HERE / "function.py", "--architecture", other, stripped, files[0]], capture_output=True, text=True)
    if refused.returncode == 0 or f"is for {here}, not for {other}" not in refused.stderr or files[0].exists():
        fail(f"a program for {here} is packed for {other}: {refused.stderr}")
    for file in files:
        run(sys.executable, HERE / "function.py", "--architecture", here, stripped, file)
    if files[0].read_bytes() != files[1].read_bytes():
        fail("two zip files of one program differ")
    with zipfile.ZipFile(files[0]) as packed:
        (entry,) = packed.infolist()
        if entry.filename != "bootstrap" or entry.external_attr >> 16 != 0o100755:
            fail(f"the zip file has {entry.filename} with the mode {entry.external_attr >> 16:o}")
        packed.extractall(folder)
    (folder / "bootstrap").chmod(0o755)
    if not run(folder / "bootstrap", "--version").startswith("toolfleet-worker "):
        fail("the program in the zip file does not start")


def main(bin_dir):
    run(HERE / ".image/venv/bin/hadolint", *sorted(HERE.glob("*.Containerfile")))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.chmod(folder, 0o755)
        begun = time.monotonic()
        # The three at once: each is mostly one process that packs.
        with ThreadPoolExecutor() as pool:
            images = [pool.submit(build_twice, name, bin_dir / program, folder) for name, program in IMAGES.items()]
            for done in [*images, pool.submit(check_function, bin_dir / "toolfleet-worker", folder)]:
                done.result()
        timed("images and function", begun)
        begun = time.monotonic()
        version = json.loads(run("cargo", "metadata", "--format-version", "1", "--no-deps"))["packages"][0]["version"]
        container = run("buildah", "from", f"localhost/toolfleet:{version}").strip()
        if version not in run("buildah", "run", container, "--", "/toolfleet", "--version"):
            fail("the command does not say its version")
        run("buildah", "rm", container)
        run_worker(f"localhost/toolfleet-worker:{version}", bin_dir, folder)
        run("buildah", "rmi", f"localhost/toolfleet:{version}", f"localhost/toolfleet-worker:{version}")
        timed("what runs in them", begun)
    print("images: all seen")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
