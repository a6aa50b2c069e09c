"""Downloads that survive bad networks: mirrors, retries, resuming, checksums."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from dmemm.errors import UserError
from dmemm.progress import progress

BLOCK = 1 << 20
TIMEOUT_S = (10, 30)  # to connect, to wait for the next bytes
ATTEMPTS = 5  # per mirror
CONNECT_ATTEMPTS = 2  # of a mirror that never answered: without a network, say so within seconds
FIRST_WAIT_S = 1.0  # doubles after each attempt


class _RefusedError(Exception):
    """This mirror will not deliver the file: go to the next one."""


class _BrokenError(Exception):
    """This attempt failed, but the mirror may work later: make up to `attempts` attempts."""

    def __init__(self, reason: str, attempts: int = ATTEMPTS) -> None:
        super().__init__(reason)
        self.attempts = attempts


def fetch(urls: Sequence[str], output: Path, *, size: int | None = None, sha256: str | None = None) -> str:
    """Download a file from the first mirror that works, and return its SHA-256.

    An interrupted download stays beside `output` as `.part` and goes on from there the next time. `output` itself is
    only ever replaced by a whole file that passed the checks.

    Args:
        urls: the mirrors (http or https), best first.
        output: the file to write.
        size: its length in bytes, if known.
        sha256: its SHA-256 in hex, if known.

    Raises:
        UserError: a mirror is not http(s), no mirror delivers the file, or it cannot be written.
    """
    for url in urls:
        if not url.lower().startswith(("http://", "https://")):
            raise UserError(f"{url}: not an http(s) address; correct it")
    reasons = []
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            download = _Download(session, output, size, sha256.lower() if sha256 else None)
            for url in urls:
                try:
                    return download.from_mirror(url)
                except (_RefusedError, _BrokenError) as failure:
                    reasons.append(" ".join(f"{url}: {failure}".split()))
    except OSError as error:
        raise UserError(
            f"{output}: cannot write: {error.strerror or error}; free space or choose another folder"
        ) from error
    why = "; ".join(reasons) or "no mirror given"
    raise UserError(f"{output.name}: cannot download ({why}); check the network, or put the file at {output} yourself")


class _Download:
    def __init__(self, session: requests.Session, output: Path, size: int | None, sha256: str | None) -> None:
        session.headers["Accept-Encoding"] = "identity"  # lengths and ranges are then those of the file
        self.session, self.output, self.size, self.sha256 = session, output, size, sha256
        self.part = output.with_name(output.name + ".part")
        self.note = output.with_name(output.name + ".part.json")  # {URL the part is from: its version's validator}

    def from_mirror(self, url: str) -> str:
        attempts, made = 0, 0
        while True:
            try:
                return self._attempt(url)
            except _BrokenError as failure:
                made += 1
                attempts = max(attempts, failure.attempts)  # once it answered, a lost connection may come back
                if made >= attempts:
                    raise
                print(f"{self.output.name}: {failure}; trying again", file=sys.stderr)
            time.sleep(FIRST_WAIT_S * 2 ** (made - 1))

    def _attempt(self, url: str) -> str:
        response, offset, total = self._open(url)
        with response, self.part.open("a+b") as file:
            if self.size is not None and total is not None and total != self.size:
                raise self._wrong(f"has {total} bytes instead of {self.size}", offset)
            file.seek(0)
            digest, done = hashlib.file_digest(file, "sha256"), offset
            with progress(total or 0, self.output.name, offset) as bar:
                bar.total, bar.unit, bar.unit_scale = total, "B", True
                for block in _blocks(response):
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
                    done += len(block)
        if total is not None and done < total:  # a server may send less than the range that was asked for
            raise _BrokenError(f"broke off after {done} of {total} bytes")
        if self.size not in (None, done):
            raise self._wrong(f"sent {done} bytes instead of {self.size}", offset)
        if self.sha256 not in (None, digest.hexdigest()):
            raise self._wrong(f"SHA-256 is {digest.hexdigest()} instead of {self.sha256}", offset)
        os.replace(self.part, self.output)
        self.note.unlink(missing_ok=True)
        return digest.hexdigest()

    def _open(self, url: str) -> tuple[requests.Response, int, int | None]:
        """The response, how many bytes of the part it continues, and the whole file's length."""
        offset, validator = self._resume_point(url)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        response = _get(self.session, url, headers)
        if offset and response.status_code in (206, 416):
            found = re.fullmatch(rf"bytes {offset}-\d+/(\d+)", response.headers.get("Content-Range", ""))
            # Some servers ignore If-Range, so the version that the answer names is compared as well.
            if found and (validator is None or _validator(response) in (None, validator)):
                self._write_note(url, validator)
                return response, offset, int(found[1])
            response.close()
            response = _get(self.session, url, {})
        if response.status_code != 200:
            response.close()
            raise _RefusedError(f"HTTP {response.status_code} {response.reason}")
        self.part.unlink(missing_ok=True)  # before the note, which must never vouch for another version's bytes
        self._write_note(url, _validator(response))
        return response, 0, response.raw.length_remaining

    def _resume_point(self, url: str) -> tuple[int, str | None]:
        """Bytes to go on from and the validator to send; 0 bytes if two versions could be mixed unnoticed."""
        try:
            validator = json.loads(self.note.read_text()).get(url)
        except (FileNotFoundError, ValueError, AttributeError):
            validator = None
        # Two versions may have the same size: only a checksum can stand in for the validator.
        usable = self.part.exists() and (validator or self.sha256)
        return (self.part.stat().st_size, validator) if usable else (0, None)

    def _write_note(self, url: str, validator: str | None) -> None:
        self.note.write_text(json.dumps({url: validator}))

    def _wrong(self, reason: str, offset: int) -> Exception:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        # After a resume the old part may be what is wrong: let the mirror send everything.
        return _BrokenError(reason) if offset else _RefusedError(reason)


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    never = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if isinstance(error, never) or any(isinstance(cause, NewConnectionError) for cause in _causes(error)):
            raise _BrokenError(f"cannot connect: {_reason(error)}", CONNECT_ATTEMPTS) from error
        raise _BrokenError(_reason(error)) from error
    except (requests.RequestException, HTTPError, ValueError) as error:  # the last two: from odd addresses
        raise _RefusedError(_reason(error)) from error
    if response.status_code in (408, 429) or response.status_code >= 500:
        response.close()
        raise _BrokenError(f"HTTP {response.status_code} {response.reason}")
    return response


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """The bytes as sent. A generator, so that a failure to write the file is not taken for the network's."""
    try:
        yield from response.raw.stream(BLOCK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _BrokenError(f"broke off: {_reason(error)}") from error


def _validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")  # a weak one (W/"…") does not promise the same bytes
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    for inner in (error.__cause__, *error.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
            return


def _reason(error: BaseException) -> str:
    *_, root = _causes(error)  # "Connection refused" rather than three layers of wrapping
    return getattr(root, "strerror", None) or str(root) or type(root).__name__
