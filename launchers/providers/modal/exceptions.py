"""Modal's exceptions as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from launchers.errors import CredentialError, LaunchError, MendInput, Unreachable

LOGIN = "run `modal token new`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Modal's errors in the classes of `launchers.errors`.

    The builtin `TimeoutError` passes: it means that there is no answer yet. `modal.exception.TimeoutError` is another class.
    """
    import modal.exception as theirs

    try:
        yield
    except (LaunchError, TimeoutError, FileNotFoundError, AssertionError):
        raise
    except theirs.AuthError as error:
        raise CredentialError(f"Modal refuses the token ({_sentence(error)}): {LOGIN}.") from error
    except (theirs.ServiceError, theirs.InternalError, theirs.ClientClosed, theirs.ConnectionError, OSError) as error:
        raise Unreachable(f"Modal does not answer ({type(error).__name__}: {_sentence(error)}).") from error
    except theirs.ImageBuildError as error:
        logs = f": see `modal image logs {error.image_id}`" if getattr(error, "image_id", None) else ""
        raise MendInput(f"Modal could not build the image ({_sentence(error)}){logs}.") from error
    except (theirs.InvalidError, theirs.NotFoundError) as error:
        raise MendInput(f"Modal refuses this: {_sentence(error)}.") from error
    except (Exception, theirs.InputCancellation) as error:
        text = _sentence(error) or "no reason given"
        raise Unreachable(f"{type(error).__name__} at Modal: {text}") from error


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else ""
