"""Finds secrets in files that would travel: by file name, by the documented shape of keys, and by values this process holds.

Each shape has a literal part that is looked for first: that is a search in C, and few files come to the regular expression.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from launchers.secrecy import secret_values

ALLOW_FILE = ".launchers-allow"
"""At the top of the working tree: one SHA-256 of a harmless file per line, then anything, such as its name."""
IGNORE = b"secret-scan: ignore"
"""On a line of a file: what stands on it is harmless."""

_NAMES = re.compile(
    r"^(\.env(\..+|rc)?|.+\.env|\.netrc|_netrc|\.pypirc|\.npmrc|\.pgpass|\.my\.cnf|\.boto|\.s3cfg|rclone\.conf|\.htpasswd"
    r"|\.git-credentials|\.dockercfg|\.modal\.toml|kaggle\.json|kubeconfig|.+\.kubeconfig|vast_api_key|\.vast_api_key"
    r"|id_(rsa|dsa|ecdsa|ed25519)|.+\.(pem|p12|pfx|ppk|jks|keystore|kdbx|tfstate|tfstate\.backup)"
    r"|credentials(\.json|\.db)?|application_default_credentials\.json|client_secret.*\.json|service[-_]account.*\.json)$"
)
_PATHS = re.compile(r"(^|/)(\.kube/config|\.docker/config\.json|\.config/jl/config\.toml|\.cache/huggingface/token)$")
_HARMLESS_NAMES = re.compile(r"\.(example|sample|template|dist)$")
_ONLY_PUBLIC = re.compile(rb"-----BEGIN (?!(?:X509 |TRUSTED )?CERTIFICATE-----|[A-Z0-9 ]*PUBLIC KEY-----)")
"""In a `.pem`: a block that is neither a certificate nor a public key."""
_PLACEHOLDER = re.compile(
    rb"(?i)example|placeholder|your|xxxx|1234|abcd|pass|secret|changeme|token|dummy|[<{$*%]|(.)\1\1\1"
)


def _has_digit(value: bytes) -> bool:
    return any(48 <= c < 58 for c in value)


def _mixed(value: bytes) -> bool:
    """Digits and both cases, as a random key of some length has them, and a name hardly ever."""
    return _has_digit(value) and value.lower() != value != value.upper()


def _no_example(value: bytes) -> bool:
    return not value.endswith(b"EXAMPLE") and b"EXAMPLEKEY" not in value


def _real_password(value: bytes) -> bool:
    return _has_digit(value) and any(chr(c).isalpha() for c in value) and not _PLACEHOLDER.search(value)


def _decodes_to_aws(value: bytes) -> bool:
    text = base64.b64decode(value[:24] + b"A" * (-len(value[:24]) % 4) if len(value) < 28 else value[:28])
    return re.match(rb"(?:AKIA|ASIA)[A-Z0-9]{14}", text) is not None


def _always(value: bytes) -> bool:
    return True


@dataclass(frozen=True)
class _Shape:
    """A kind of key: `pattern` is looked for around each place where a literal stands."""

    what: str
    literals: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    is_real: Callable[[bytes], bool] = _always
    """Of the first group, or of the whole match."""
    before: int = 1
    """Bytes before the literal that may belong to the match."""
    after: int = 400

    def find(self, content: bytes) -> Iterator[int]:
        """Where such keys begin."""
        for literal in self.literals:
            at = content.find(literal)
            while at >= 0:
                match = self.pattern.search(content, max(at - self.before, 0), at + self.after)
                if match and self.is_real(match[match.lastindex or 0]):
                    yield match.start()
                at = content.find(literal, at + len(literal))


def _token(what: str, *literals: bytes, rest: bytes, is_real: Callable[[bytes], bool] = _always) -> _Shape:
    """A key with a prefix of its own."""
    start = b"|".join(re.escape(literal) for literal in literals)
    pattern = re.compile(rb"(?<![A-Za-z0-9])(?:" + start + rb")" + rest)
    return _Shape(what, literals, pattern, is_real)


_VENDORS = (
    rb"wandb|vast|jl|hf|huggingface|openai|anthropic|modal|mistral|cohere|groq|gemini|comet|neptune|runpod|kaggle"
)
_SCHEMES = rb"https?|ftp|postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|rediss?|amqps?|mssql|oracle|clickhouse|snowflake|smtps?"
_SHAPES = (
    _Shape(
        "a private key", (b"PRIVATE KEY",),
        re.compile(
            rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\+[nr]|[\"',])*"
            rb"(?:[A-Z][A-Za-z-]+: ?[^\n\\]+(?:\s|\\+[nr]|[\"',])+)*[A-Za-z0-9+/=]{16}"
        ),
        before=40,
    ),
    _token("a PuTTY key", b"PuTTY-User-Key-File-", rest=rb"[23]: \S"),
    _token("an age key", b"AGE-SECRET-KEY-1", rest=rb"[A-Z0-9]{50,}"),
    _token("an AWS key", b"AKIA", b"ASIA", rest=rb"[A-Z0-9]{16}(?![A-Za-z0-9])", is_real=_no_example),
    _token("an AWS key in base64", b"QUtJQ", b"QVNJQ", rest=rb"[A-Za-z0-9+/]{21,22}", is_real=_decodes_to_aws),
    _Shape(
        "an AWS secret key", (b"ecret_access_key", b"SECRET_ACCESS_KEY", b"ecretAccessKey", b"aws_secret", b"AWS_SECRET"),
        re.compile(rb"(?:key|KEY|Key|secret|SECRET)[\"']?\s{0,4}(?:=>|[:=,])\s{0,4}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"),
        lambda value: _no_example(value) and _mixed(value),
    ),
    _token("a Google API key", b"AIza", rest=rb"[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    _token("a Google client secret", b"GOCSPX-", rest=rb"[A-Za-z0-9_-]{24,}"),
    _token("an Azure account key", b"AccountKey=", b"SharedAccessKey=", rest=rb"[A-Za-z0-9+/]{40,}="),
    _token("a GitHub token", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", rest=rb"[A-Za-z0-9]{36,}"),
    _token("a GitHub token", b"github_pat_", rest=rb"[A-Za-z0-9_]{60,}"),
    _token("a GitLab token", b"glpat-", b"gldt-", b"glrt-", b"glptt-", rest=rb"[A-Za-z0-9_-]{20,}"),
    _token("a Slack token", b"xox", rest=rb"[abeoprs]-[A-Za-z0-9-]{20,}", is_real=_has_digit),
    _token("a Slack token", b"xapp-", rest=rb"[A-Za-z0-9-]{20,}"),
    _token("a Slack webhook", b"hooks.slack.com/", rest=rb"(?:services|workflows)/T[A-Z0-9]{7,}/[A-Z0-9]{7,}/[A-Za-z0-9]{20,}"),
    _Shape("a Discord webhook", (b"/api/webhooks/",), re.compile(rb"discord(?:app)?\.com/api/webhooks/\d{15,}/[\w-]{50,}"), before=20),
    _token("a Twilio key", b"SK", rest=rb"[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("a SendGrid key", b"SG.", rest=rb"[\w-]{20,24}\.[\w-]{39,50}"),
    _Shape("a Telegram bot token", (b":AA",), re.compile(rb"(?<![A-Za-z0-9])\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"), before=11),
    _token("a DigitalOcean token", b"dop_v1_", b"doo_v1_", b"dor_v1_", rest=rb"[a-f0-9]{64}"),
    _token("a Databricks token", b"dapi", rest=rb"[a-f0-9]{32}(?![A-Za-z0-9])"),
    _Shape("a Stripe key", (b"k_live_",), re.compile(rb"(?<![A-Za-z0-9])[rs]k_live_[A-Za-z0-9]{20,}"), before=2),
    _token("an API key", b"sk-", rest=rb"(?:[a-z]+[0-9]*-)*[A-Za-z0-9_-]{32,}", is_real=_mixed),
    _token("a Hugging Face token", b"hf_", rest=rb"[A-Za-z0-9]{30,}", is_real=_mixed),
    _token("a W&B key", b"wandb_v1_", rest=rb"[A-Za-z0-9_]{40,}"),
    _Shape(
        "a W&B key", (b"wandb", b"WANDB"),
        re.compile(rb"(?i)wandb[^\n]{0,40}?(?:key|token|login)[^\n]{0,20}?[\"'=:\s]([a-f0-9]{40})(?![a-f0-9])"), after=120,
    ),
    _token("a Modal token", b"ak-", b"as-", rest=rb"[A-Za-z0-9]{22}(?![A-Za-z0-9])", is_real=_mixed),
    _token("a Replicate token", b"r8_", rest=rb"[A-Za-z0-9]{36,}"),
    _token("a Groq key", b"gsk_", rest=rb"[A-Za-z0-9]{48,}"),
    _token("an NVIDIA key", b"nvapi-", rest=rb"[A-Za-z0-9_-]{60,}"),
    _token("a PyPI token", b"pypi-AgE", rest=rb"[\w-]{50,}"),
    _token("an npm token", b"npm_", rest=rb"[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _token("an npm token", b"_authToken", rest=rb"\s?=\s?[A-Za-z0-9][\w.-]{15,}"),
    _token("a Docker token", b"dckr_pat_", rest=rb"[A-Za-z0-9_-]{20,}"),
    _Shape("a Docker login", (b'"auths"',), re.compile(rb'"auths"[\s\S]{0,300}?"auth"\s*:\s*"[A-Za-z0-9+/=]{12,}"')),
    _token("a Kubernetes key", b"client-key-data:", rest=rb"\s*[A-Za-z0-9+/=]{60,}"),
    _token("a Kaggle key", b'"key"', rest=rb'\s*:\s*"[0-9a-f]{32}"'),
    _Shape("a password hash", (b"$apr1$",), re.compile(rb"\$apr1\$[./A-Za-z0-9]{8}\$[./A-Za-z0-9]{22}")),
    _token("a token in an address", b"?token=", b"&token=", rest=rb"[0-9a-f]{40,}(?![0-9a-z])"),
    _Shape("a signed token", (b".eyJ",), re.compile(rb"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}"), before=400, after=2000),
    _Shape(
        "an address with a password", (b"://",),
        re.compile(
            rb"(?:" + _SCHEMES + rb")(?:\+\w+)?://[^\s:@/\"'<>{}$*`]{0,64}:([^\s:@/\"'<>{}$*`]{6,200})@"
            rb"(?!(?:[\w.-]+\.)?example(?:[.:/]|$))[A-Za-z0-9.-]"
        ),
        _real_password, before=24,
    ),
    _Shape(
        "a key in an assignment", (b"_api_key", b"_API_KEY", b"_token", b"_TOKEN"),
        re.compile(rb"(?i)(?:" + _VENDORS + rb")_(?:api_key|token)[\"']?\s{0,4}[:=]\s{0,4}[\"']?([A-Za-z0-9_-]{20,})"),
        _has_digit, before=16, after=120,
    ),
)  # fmt: skip


def find_secret(path: str, content: bytes, shapes: bool = True, allowed: frozenset[str] = frozenset()) -> str | None:
    """What kind of secret a file holds, in words; None when none was found.

    Args:
        path: as the file is called here: its name may say enough.
        shapes: False looks for names and for the values that this process holds: in a text corpus, shapes of keys are just text.
        allowed: SHA-256 of contents that the user calls harmless; a value that this process holds is never harmless.
    """
    for variable, value in secret_values().items():
        if value in content:
            return f"the value of {variable}"
    if allowed and hashlib.sha256(content).hexdigest() in allowed:
        return None
    if has_secret_name(path) and not (path.endswith(".pem") and content and not _ONLY_PUBLIC.search(content)):
        return "credentials, by its name,"
    if not shapes:
        return None
    texts = [content]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:4]:
        texts.append(content.replace(b"\0", b""))  # UTF-16
    for text in texts:
        for shape in _SHAPES:
            for at in shape.find(text):
                if not _is_ignored(text, at):
                    return f"{shape.what} (line {text.count(10, 0, at) + 1})"
    return None


def has_secret_name(path: str) -> bool:
    """Whether files of that name hold credentials."""
    name = PurePosixPath(path).name
    return bool(_NAMES.match(name) or _PATHS.search(path)) and not _HARMLESS_NAMES.search(name)


def _is_ignored(content: bytes, at: int) -> bool:
    start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
    return IGNORE in content[start : end if end >= 0 else len(content)]


def allowed_digests(text: str) -> frozenset[str]:
    """Of an `ALLOW_FILE`."""
    return frozenset(re.findall(r"^\s*([0-9a-f]{64})\b", text, re.MULTILINE))


_DIFF = re.compile(rb"^(?=diff --git )", re.MULTILINE)
_DIFF_NAMES = re.compile(rb'^diff --git (?:"?a/(.*?)"?) (?:"?b/(.*?)"?)$', re.MULTILINE)


def harmless_diff(diff: bytes) -> bytes:
    """A diff without the files that hold a secret, by name or in a line, be it one that was removed."""
    kept, left_out = [], []
    for part in _DIFF.split(diff):
        names = _DIFF_NAMES.match(part)
        found = None
        for name in names.groups() if names else (b"changes.diff",):
            found = found or find_secret(name.decode(errors="replace"), part)
        if found:
            left_out.append(f"# left out, holds {found}: {names[2].decode(errors='replace') if names else 'a part'}\n")
        else:
            kept.append(part)
    return "".join(left_out).encode() + b"".join(kept)
