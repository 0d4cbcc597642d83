#!/bin/sh
# Runs a command beside a throw-away podman with two images of its own: tests/containers.sh COMMAND [ARGUMENT...]
# TASKLOOM_TEST_IMAGE (a shell) and TASKLOOM_TEST_PYTHON_IMAGE (a shell and Python) name them while it runs; they are
# made from this machine's own files, so no registry is asked. Afterwards nothing of its containers and images is left.
# As root podman is installed from the distribution when it is missing.
set -eu

if ! { command -v podman && command -v runc && command -v busybox; } >/dev/null 2>&1 &&
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "containers.sh: installing podman" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends podman runc busybox-static >&2
fi
for program in podman runc busybox; do
    command -v "$program" >/dev/null || { echo "containers.sh: no $program found; install podman, runc and busybox-static" >&2; exit 1; }
done

PLACE=$(mktemp -d /tmp/taskloom-containers.XXXXXX)
export CONTAINERS_CONF="$PLACE/containers.conf" CONTAINERS_STORAGE_CONF="$PLACE/storage.conf" # before anything is removed
stop() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    podman rmi --all --force >/dev/null 2>&1 || true
    rm -rf "$PLACE"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# No system services, no layers in the kernel, no network of its own: what works in a container of its own, too.
cat >"$PLACE/containers.conf" <<CONF
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
netns = "host"
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
CONF
cat >"$PLACE/storage.conf" <<CONF
[storage]
driver = "vfs"
runroot = "$PLACE/run"
graphroot = "$PLACE/graph"
CONF

shell_root() { # a folder that holds what every image needs
    mkdir -p "$1/bin" "$1/tmp" "$1/etc" "$1/proc" "$1/dev" "$1/root"
    chmod 1777 "$1/tmp"
    cp "$(command -v busybox)" "$1/bin/busybox"
    for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "$1/bin/$name"; done
    echo "root:x:0:0:root:/root:/bin/sh" >"$1/etc/passwd"
    cp /etc/hosts "$1/etc/hosts"
}

python_root() { # the interpreter that runs the tests, with the libraries that it needs
    python3 - "$1" <<'PYTHON'
import pathlib, re, shutil, subprocess, sys
target, base = pathlib.Path(sys.argv[1]), pathlib.Path(sys.base_prefix)
version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
program = pathlib.Path(sys.executable).resolve()
left_out = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "turtledemo", "__pycache__", "config-*", "lib2to3")
shutil.copytree(base / "lib" / version, target / str(base / "lib" / version)[1:], symlinks=True, dirs_exist_ok=True,
                ignore=lambda folder, names: left_out(folder, names) | ({"site-packages"} & set(names)))
(target / str(base)[1:] / "bin").mkdir(parents=True, exist_ok=True)
shutil.copy2(program, target / str(program)[1:])
wanted = [program, *(base / "lib" / version / "lib-dynload").glob("*.so")]
found = subprocess.run(["ldd", *map(str, wanted)], capture_output=True, text=True).stdout
for path in set(re.findall(r"(?:=> |\t)(/[^ :]+) \(", found)):
    place = target / path[1:]
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(pathlib.Path(path).resolve(), place)
link = target / "bin" / "python3"
link.symlink_to(program)
PYTHON
}

make_image() { # folder, name
    tar -C "$1" -c . | podman import --quiet - "$2" >/dev/null
    rm -rf "$1"
}

mkdir "$PLACE/tiny" "$PLACE/python"
shell_root "$PLACE/tiny"
cp -a "$PLACE/tiny/." "$PLACE/python/"
python_root "$PLACE/python"
TASKLOOM_TEST_IMAGE=localhost/taskloom-test/shell:1
TASKLOOM_TEST_PYTHON_IMAGE=localhost/taskloom-test/python:1
make_image "$PLACE/tiny" "$TASKLOOM_TEST_IMAGE"
make_image "$PLACE/python" "$TASKLOOM_TEST_PYTHON_IMAGE"
export TASKLOOM_TEST_IMAGE TASKLOOM_TEST_PYTHON_IMAGE

status=0
"$@" || status=$?
exit "$status"
