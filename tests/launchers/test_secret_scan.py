"""What the scan of outgoing files finds: every documented kind of key, by name or by shape, and nothing in ordinary text.

The values are drawn anew in each run, in the shape of each kind: a literal would be found in this very file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import subprocess
from pathlib import Path

import pytest

from launchers.secrecy import scrub, secret_values
from launchers.secret_scan import allowed_digests, find_secret, harmless_diff, has_secret_name

DIGITS, HEX = string.digits, "0123456789abcdef"
ALNUM = string.ascii_letters + DIGITS
BASE64 = ALNUM + "+/"
UPPER = string.ascii_uppercase + DIGITS


def some(alphabet: str, length: int) -> str:
    """Random, with a digit and both cases where the alphabet has them."""
    text = "".join(random.choices(alphabet, k=length))
    return text[:-3] + "".join(next(c for c in alphabet if test(c)) if any(map(test, alphabet)) else alphabet[0] for test in
                               (str.isdigit, str.islower, str.isupper))  # fmt: skip


def block(kind: str, headers: str = "") -> str:
    lines = "\n".join(some(BASE64, 64) for _ in range(4))
    return f"-----BEGIN {kind}-----\n{headers}{lines}\n-----END {kind}-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


GITHUB, HUB, WANDB, AWS_SECRET = "ghp_" + some(ALNUM, 36), "hf_" + some(ALNUM, 34), some(HEX, 40), some(BASE64, 40)
AWS_ID = "AKIA" + some(UPPER, 16)
GITLAB = "glpat-" + some(ALNUM, 20)
PEM = block("RSA PRIVATE KEY")
PASSWORD = some(ALNUM, 16).replace("1234", "7391")

KINDS: dict[str, tuple[str, str | bytes]] = {
    "AWS access key id": ("a.py", f'client(key="{AWS_ID}")'),
    "AWS secret alone": ("a.py", f'aws_secret_access_key = "{AWS_SECRET}"'),
    ".aws/credentials": ("credentials", "[default]\n"),
    "Google service account": ("project-1a2b.json", json.dumps({"type": "service_account", "private_key": PEM})),
    "Google API key": ("a.js", "AIza" + some(ALNUM, 35)),
    "Google client secret": ("a.json", '"client_secret":"GOCSPX-' + some(ALNUM, 28) + '"'),
    "Azure connection string": ("a.ini", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + some(BASE64, 86) + "=="),
    "GitHub classic": ("a.txt", GITHUB),
    "GitHub fine-grained": ("a.txt", "github_pat_" + some(ALNUM, 22) + "_" + some(ALNUM, 59)),
    "address with GitLab token": ("a.sh", f"git clone https://oauth2:{GITLAB}@gitlab.com/a/b"),
    "GitLab": ("a.yml", GITLAB),
    "Slack bot": ("a.py", f"xoxb-{some(DIGITS, 12)}-{some(DIGITS, 12)}-{some(ALNUM, 24)}"),
    "Slack webhook": ("a.py", f"https://hooks.slack.com/services/T{some(UPPER, 8)}/B{some(UPPER, 8)}/{some(ALNUM, 24)}"),
    "Twilio": ("a.py", "SK" + some(HEX, 32)),
    "SendGrid": ("a.py", "SG." + some(ALNUM, 22) + "." + some(ALNUM, 43)),
    "Telegram": ("a.py", some(DIGITS, 9) + ":AA" + some(ALNUM, 33)),
    "Discord webhook": ("a.py", f"https://discord.com/api/webhooks/{some(DIGITS, 18)}/{some(ALNUM, 68)}"),
    "DigitalOcean": ("a.tf", "dop_v1_" + some(HEX, 64)),
    "Databricks": ("a.cfg", "token = dapi" + some(HEX, 32)),
    "terraform state": ("terraform.tfstate", "{}"),
    "rclone.conf": ("rclone.conf", "[remote]\n"),
    "Stripe live key": ("a.rb", "sk_live_" + some(ALNUM, 24)),
    "OpenAI project key": ("a.py", "sk-proj-" + some(ALNUM, 48)),
    "OpenAI old key": ("a.py", "sk-" + some(ALNUM, 48)),
    "Anthropic": ("a.py", "sk-ant-api03-" + some(ALNUM, 80)),
    "Hugging Face": ("a.py", f'login("{HUB}")'),
    "HF in a notebook": ("a.ipynb", json.dumps({"cells": [{"source": [f'login(token="{HUB}")\n']}]})),
    "W&B KEY=": ("a.sh", f"export WANDB_API_KEY={WANDB}"),
    "wandb.login(key=...)": ("a.py", f'wandb.login(key="{WANDB}")'),
    "Vast KEY=": ("a.sh", f"VAST_API_KEY={some(HEX, 64)}"),
    "Modal token": ("a.sh", f"modal token set --token-id ak-{some(ALNUM, 22)} --token-secret as-{some(ALNUM, 22)}"),
    ".modal.toml": (".modal.toml", "[me]\n"),
    "RSA PEM": ("server", PEM),
    "OpenSSH key, odd name": ("deploy", block("OPENSSH PRIVATE KEY")),
    "encrypted PEM": ("k.txt", block("RSA PRIVATE KEY", f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{some(UPPER, 32)}\n\n")),
    "PGP": ("k.asc", block("PGP PRIVATE KEY BLOCK", "Version: GnuPG v2\n\n")),
    "PuTTY": ("k.txt", "PuTTY-User-Key" + "-File-3: ssh-ed25519\nEncryption: none\n"),
    "PEM in JSON": ("a.ipynb", json.dumps({"source": PEM.splitlines(keepends=True)}, indent=1)),
    "Replicate": ("a.py", "r8_" + some(ALNUM, 37)),
    "age key": ("k.txt", "AGE-SECRET-KEY-1" + some(UPPER, 58)),
    ".netrc": (".netrc", "machine x\n"),
    ".pypirc": (".pypirc", "[pypi]\n"),
    "PyPI token elsewhere": ("publish.sh", "pypi-AgEIcHlwaS5vcmc" + some(ALNUM, 90)),
    ".npmrc": (".npmrc", ""),
    "kubeconfig": ("cluster.yaml", f"users:\n- user:\n    client-key-data: {some(BASE64, 400)}"),
    "docker config.json": ("config.json", json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": encoded("me:" + PASSWORD)}}})),
    ".git-credentials": (".git-credentials", ""),
    "git credentials with a GitHub token": ("saved", f"https://me:{GITHUB}@github.com"),
    "Jupyter ?token=": ("a.ipynb", f"http://localhost:8888/?token={some(HEX, 48)}"),
    "PostgreSQL address": ("settings.py", f"postgresql://app:{PASSWORD}@db.internal:5432/app"),
    "MongoDB address": ("settings.py", f"mongodb+srv://app:{PASSWORD}@cluster0.mongodb.net"),
    ".env.local": (".env.local", "A=1"),
    ".envrc": (".envrc", "export A=1"),
    "prod.env": ("prod.env", "A=1"),
    "AWS id in base64": ("a.yaml", f"id: {encoded(AWS_ID)}"),
    "HF in UTF-16": ("a.txt", f"token {HUB}".encode("utf-16")),
    "JWT": ("a.py", ".".join([*(encoded(f'{{"{key}": "HS256-and-more"}}').rstrip("=") for key in ("alg", "sub")), some(ALNUM, 43)])),
    "Groq": ("a.py", "gsk_" + some(ALNUM, 52)),
    ".htpasswd": (".htpasswd", ""),
    ".s3cfg": (".s3cfg", ""),
    "Kaggle": ("kaggle.json", ""),
}  # fmt: skip
NOT_FOUND = ("a bare Vast key in key.txt that this machine does not hold", 'password = "..." in code')
"""The rest of the 63 kinds: both look like any other text."""


def as_bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_secret_is_recognized(kind: str):
    name, content = KINDS[kind]
    assert find_secret(f"folder/{name}", as_bytes(content)), content


def test_nearly_all_of_the_documented_kinds_are_known():
    assert len(KINDS) + len(NOT_FOUND) == 63


HARMLESS = {
    "an example": (".env.example", "WANDB_API_KEY=\n"),
    "AWS's own example": ("a.md", "AKIA" + "IOSFODNN7EXAMPLE"),
    "an address with a placeholder": ("a.md", "postgres://user:password@localhost/db, https://user:pass1@proxy.corp"),
    "a password from the environment": ("a.py", 'f"postgres://app:{PASSWORD}@db"'),
    "public certificates": ("cacert.pem", block("CERTIFICATE")),
    "a public key": ("key.pem", block("PUBLIC KEY")),
    "a class of a style sheet": ("a.css", ".sk-estimator-doc-link-of-the-very-long-name-here {}"),
    "a name": ("a.py", "hf_" + "a" * 40),
    "a type": ("a.py", "wandb_api_key: Optional[SecretStringOfSomeKind] = None"),
    "a digest": ("a.lock", some(HEX, 64)),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_ordinary_text_is_no_secret(what: str):
    name, content = HARMLESS[what]
    assert find_secret(name, content.encode()) is None


def test_a_line_can_be_marked_as_harmless_and_only_that_line():
    marked = f"a = '{GITHUB}'  # secret-scan: ignore\n".encode()
    assert find_secret("a.py", marked) is None
    assert find_secret("a.py", marked + f"b = '{GITHUB}'\n".encode()) == "a GitHub token (line 2)"


def test_a_file_can_be_marked_as_harmless_by_its_digest_until_it_changes():
    content = json.dumps({"example": GITHUB}).encode()
    allowed = allowed_digests(f"# ours\n{hashlib.sha256(content).hexdigest()}  example.json\n")
    assert find_secret("example.json", content, allowed=allowed) is None
    assert find_secret("example.json", content + b" ", allowed=allowed)


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_KEY", "GH_PAT", "SENTRY_DSN", "DB_PASS", "PGPASSWORD", "MY_TOKEN", "APP_CREDENTIAL",
     "SIGNING_SECRET_KEY", "OPENAI_APIKEY"],
)  # fmt: skip
def test_the_value_of_a_variable_that_is_named_like_a_secret_is_looked_for(name: str, monkeypatch: pytest.MonkeyPatch):
    value = some(ALNUM, 24)
    monkeypatch.setenv(name, value)
    text = f"note: {value}".encode()
    assert find_secret("notes.txt", text, shapes=False) == f"the value of {name}"
    # One that this process holds is never harmless.
    assert find_secret("notes.txt", text, allowed=frozenset([hashlib.sha256(text).hexdigest()]))


def test_the_password_in_the_address_of_a_variable_is_looked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", f"postgres://app:{PASSWORD}@db/app")
    assert find_secret("notes.txt", f"pw {PASSWORD}".encode()) == "the value of DATABASE_URL"


def test_a_variable_that_only_says_where_a_secret_lies_is_none():
    assert (
        secret_values({"PWD": "/home/someone", "HF_TOKEN_PATH": "/home/someone/token", "KEYBOARD": "qwerty-qwerty"})
        == {}
    )
    assert secret_values({"POSTGRES_PASSWORD": "postgres"}) == {}


def test_keys_that_other_tools_keep_in_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("XDG_CONFIG_HOME", "HF_HOME", "HF_TOKEN_PATH", "MODAL_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {name: some(ALNUM, 30) for name in ("vast", "jarvis", "modal", "hub", "wandb")}
    for place, text in {
        ".config/vastai/vast_api_key": keys["vast"] + "\n",
        ".config/jl/config.toml": f'[auth]\ntoken = "{keys["jarvis"]}"\n',
        ".modal.toml": f'[me]\ntoken_secret = "{keys["modal"]}"\n',
        ".cache/huggingface/token": keys["hub"],
        ".netrc": f"machine api.wandb.ai\n  login user\n  password {keys['wandb']}\n",
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    for name, key in keys.items():
        assert find_secret("notes.txt", f"x {key} y".encode(), shapes=False), name


def test_names_are_known_wherever_a_file_comes_from():
    for path in ("/home/me/.aws/credentials", "/home/me/.kube/config", "/home/me/.docker/config.json", "deep/.env"):
        assert has_secret_name(path)
    for path in ("conf/config.json", "keys.py", "environment.yml", "token.py", ".env.sample"):
        assert not has_secret_name(path)


def test_a_diff_travels_without_the_files_that_hold_a_secret(tmp_path: Path):
    def git(*arguments: str) -> bytes:
        return subprocess.check_output(
            ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@b", *arguments]
        )

    git("init", "-q")
    files = {".env": f"PLAIN={some(ALNUM, 9)}\n", "a.py": f"key = '{GITHUB}'\n", "b.py": "old\n", "odd näme.txt": "x\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    git("add", "-A")
    git("commit", "-qm", "All")
    (tmp_path / ".env").unlink()
    (tmp_path / "a.py").write_text("key = None\n")
    (tmp_path / "b.py").write_text("new\n")
    (tmp_path / "odd näme.txt").write_text("y\n")
    kept = harmless_diff(git("diff", "HEAD"))
    assert GITHUB.encode() not in kept
    assert b"PLAIN" not in kept
    assert b"+new" in kept
    assert b"+y" in kept
    assert b"left out, holds credentials, by its name,: .env" in kept
    (tmp_path / "left.diff").write_bytes(kept)
    git("stash", "-q")
    git("apply", "left.diff")
    assert (tmp_path / "b.py").read_text() == "new\n"


def test_a_text_of_others_loses_the_secrets_of_this_process(monkeypatch: pytest.MonkeyPatch):
    first, second = some(ALNUM, 20), some(ALNUM, 20)
    monkeypatch.setenv("SOME_API_KEY", f"{first}\n{second}")
    said = scrub(f"Invalid header value {f'Bearer {first}' + chr(10) + second!r}")
    assert first not in said
    assert second not in said
    assert "[SOME_API_KEY]" in said
