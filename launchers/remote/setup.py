"""Makes the environment a job runs in: the image's Python, plus the locked dependencies that it lacks; kept for the next job."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

CONSTRAINTS = "constraints.txt"

UV = "uv==0.13.9"
"""What installs the packages, where the image has no uv of its own."""


def prepare(root, tree, python, apt, provided):
    """The Python to run a working tree with, and whether work was done.


    `python`: None for the image's; `apt`: Debian packages that the job needs; `provided`: packages that stay the image's own where
    they can be imported -> beginnings of the requirements that each brings along.
    """
    if python:
        if shutil.which(python) is None:
            raise RuntimeError(f"provider.python names {python}, which is no program there")
        return python, False
    base = shutil.which("python3") or shutil.which("python") or sys.executable
    if not os.path.exists(os.path.join(tree, "pyproject.toml")):
        return base, False
    folder = os.path.join(root, "env", _fingerprint(tree, base, provided))
    python = os.path.join(folder, "bin", "python")
    done = os.path.join(folder, "complete")
    if os.path.exists(done):
        return python, False
    _install(apt)
    uv = _uv(base)
    shutil.rmtree(folder, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--system-site-packages", "--python", base, folder])
    requirements = os.path.join(folder, "requirements.txt")
    kept = [name for name in provided if _has(base, name)]
    _resolve(uv, tree, python, provided, kept, requirements)
    # The list is complete, and resolving it again would bring back what the image provides.
    hashes = ["--require-hashes"] if _all_hashed(requirements) else []
    _run([uv, "pip", "install", "--quiet", "--no-deps", *hashes, "--python", python, "-r", requirements])
    with open(done, "w") as file:
        file.write("ok")
    return python, True


def _install(packages):
    """Add Debian packages that are missing; a job may do without them where that is not possible, and will say so itself."""
    if os.geteuid() or not (shutil.which("apt-get") and shutil.which("dpkg")):
        return
    missing = [name for name in packages if _quietly(["dpkg", "-s", name])]
    if missing and not _quietly(["apt-get", "update", "-qq"]):
        _quietly(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing])


def _quietly(command):
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    return subprocess.call(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _resolve(uv, tree, python, provided, kept, requirements):
    """Write the pinned list of the project's dependencies, from its lock file where it has one."""
    if os.path.exists(os.path.join(tree, "uv.lock")):
        command = [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "-o", requirements]
        for name in kept:
            command += ["--prune", name]
        _run(command, tree)
        return
    command = [uv, "pip", "compile", "--quiet", "--python", python, "pyproject.toml", "-o", requirements]
    for name in kept:
        command += ["--no-emit-package", name]
    if os.path.exists(os.path.join(tree, CONSTRAINTS)):
        # The pins that the project was tested with, but for what the image provides.
        own = os.path.join(os.path.dirname(requirements), CONSTRAINTS)
        shutil.copy(os.path.join(tree, CONSTRAINTS), own)
        _drop_lines(own, tuple(name + "==" for name in provided))
        command += ["-c", own]
    _run(command, tree)
    _drop_lines(requirements, tuple(beginning for name in kept for beginning in provided[name]))


def _all_hashed(requirements):
    """Whether each package of the list names what its files must hash to, as those of a lock file do."""
    with open(requirements) as file:
        text = file.read().replace("\\\n", " ")
    listed = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "-"))]
    return bool(listed) and all("--hash=" in line for line in listed)


def _drop_lines(path, beginnings):
    with open(path) as file:
        lines = [line for line in file if not line.startswith(beginnings)]
    with open(path, "w") as file:
        file.writelines(lines)


def _fingerprint(tree, base, provided):
    """Changes with the dependencies, what the image provides and the Python, and with nothing else of the tree."""
    hashed = hashlib.sha256(_output([base, "-c", "import sys; print(sys.version, sys.prefix)"]).encode())
    hashed.update(json.dumps(provided, sort_keys=True).encode())
    for name in ("pyproject.toml", "uv.lock", CONSTRAINTS):
        path = os.path.join(tree, name)
        if os.path.exists(path):
            with open(path, "rb") as file:
                hashed.update(name.encode() + file.read())
    return hashed.hexdigest()[:16]


def _uv(base):
    for candidate in (shutil.which("uv"), os.path.expanduser("~/.local/bin/uv"), os.path.expanduser("~/.cargo/bin/uv")):
        if candidate and os.path.exists(candidate):
            return candidate
    _run(
        [base, "-m", "pip", "install", "--quiet", "--user", "--break-system-packages", UV],
        retry_without="--break-system-packages",
    )
    found = shutil.which("uv") or os.path.expanduser("~/.local/bin/uv")
    if not os.path.exists(found):
        raise RuntimeError("uv could not be installed")
    return found


def _has(base, module):
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({json.dumps(module)}) is None)"
    return subprocess.call([base, "-c", code]) == 0


def _output(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout.decode()


def _run(command, directory=None, retry_without=None):
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode and retry_without:
        return _run([part for part in command if part != retry_without], directory)
    if done.returncode:
        raise RuntimeError("{} failed: {}".format(" ".join(command[:3]), done.stdout.decode(errors="replace")[-1500:]))
    return None
