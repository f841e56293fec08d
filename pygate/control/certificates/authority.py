"""One ACME server (RFC 8555) under one account, by certbot's client library.

Rules:

1. Every method blocks, for at most the few calls it makes; deadlines and waiting are the caller's.
2. Only https is spoken, to whatever URL the server names; answers are capped.
3. Everything that goes wrong is an `AuthorityError` with a message that can be logged: printable, short, no key.
4. The account's key is made here and written before the server hears of it, so that no account is ever orphaned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import orjson
import requests
from acme import challenges as acme_challenges
from acme import client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from pygate.config.secrets import SecretError
from pygate.control.certificates import bounded, files
from pygate.control.certificates.challenges import HTTP_01, TLS_ALPN_01, Proof, key_text
from pygate.control.certificates.settings import binding_key
from pygate.control.certificates.storage import Storage

#: Longest answer of a server: a directory, an order, a chain.
MAX_ANSWER = 1 << 20
_MAX_MESSAGE = 400
#: Nonces of one request that a server may refuse.
NONCES = 5

P = ParamSpec("P")
T = TypeVar("T")


class AuthorityError(Exception):
    """The authority, or the way to it, failed.

    `limited`: it says that it is asked too often. `unknown`: it does not know the account.
    """

    def __init__(self, message: str, limited: bool = False, unknown: bool = False) -> None:
        super().__init__(_printable(message))
        self.limited = limited
        self.unknown = unknown


@dataclass(frozen=True)
class Account:
    """Settings of an account, with paths resolved."""

    name: str
    directory: str
    email: str
    #: File with the roots the server is checked against.
    roots: str
    binding_id: str = ""
    #: Reference to the HMAC key.
    binding_key: str = ""


@acme_challenges.ChallengeResponse.register
class _TlsAlpnResponse(acme_challenges.KeyAuthorizationChallengeResponse):
    typ = TLS_ALPN_01


@acme_challenges.Challenge.register
class _TlsAlpn(acme_challenges.KeyAuthorizationChallenge):
    """The library has dropped this kind; without it, it would be a challenge it does not know."""

    response_cls = _TlsAlpnResponse
    typ = TLS_ALPN_01

    def validation(self, account_key: JWK, **_: Any) -> str:
        return self.key_authorization(account_key)


_KINDS = {HTTP_01: acme_challenges.HTTP01, TLS_ALPN_01: _TlsAlpn}


class _Network(client.ClientNetwork):
    """The library's, with capped answers and no way off https."""

    def _send_request(self, method: str, url: str, *_: Any, **options: Any) -> requests.Response:
        if not url.startswith("https://"):
            raise errors.ClientError("the server names a URL that is not https")
        headers = {"User-Agent": self.user_agent, "Accept-Encoding": "identity", **options.pop("headers", {})}
        options.pop("timeout", None)
        options["verify"] = self.verify_ssl
        response = bounded.call(self.session, method, url, MAX_ANSWER, headers=headers, **options)
        response.encoding = "utf-8"
        return response

    def post(self, *arguments: Any, **options: Any) -> requests.Response:
        """Asked again with another nonce where the library gives up after one (RFC 8555 §6.5: servers forget them)."""
        for _ in range(NONCES):
            try:
                return self._post_once(*arguments, **options)
            except messages.Error as e:
                if e.code != "badNonce":
                    raise
                self._nonces.clear()
        return self._post_once(*arguments, **options)


@contextmanager
def _told() -> Iterator[None]:
    """Whatever the library raises, as an `AuthorityError`."""
    try:
        yield
    except AuthorityError:
        raise
    except messages.Error as e:
        told = f"{e.code or e.typ}: {e.detail or e.description or 'no detail'}"
        for part in e.subproblems or ():
            told += f"; {part.identifier.value if part.identifier else '?'}: {part.detail}"
        raise AuthorityError(told, e.code == "rateLimited", e.code == "accountDoesNotExist") from None
    except requests.exceptions.SSLError as e:
        raise AuthorityError(f"the server's certificate is not trusted: {_innermost(e)}") from None
    except requests.RequestException as e:
        raise AuthorityError(f"no connection: {_innermost(e)}") from None
    except (errors.Error, JoseError) as e:
        raise AuthorityError(f"{type(e).__name__}: {_library_text(e)}") from None
    except SecretError as e:
        raise AuthorityError(f"external account binding: {e}") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as e:
        raise AuthorityError(f"the server's answer makes no sense ({type(e).__name__})") from None


def _telling(method: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(method)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        with _told():
            return method(*args, **kwargs)

    return told


class Authority:
    """A session. For one thread at a time."""

    def __init__(self, account: Account, storage: Storage, user_agent: str) -> None:
        self.account = account
        self._storage = storage
        self._agent = user_agent
        self._key: JWK
        self._client: client.ClientV2

    @_telling
    def open(self) -> None:
        """Reads the directory and makes sure there is an account. Raises `AuthorityError`, `OSError`."""
        self._key = self._account_key()
        network = _Network(self._key, alg=ES256, verify_ssl=self.account.roots, user_agent=self._agent)  # type: ignore[arg-type]
        network.session = bounded.session()
        self._client = client.ClientV2(client.ClientV2.get_directory(self.account.directory, network), network)
        uri = self._known_account()
        if uri is None:
            uri = self._register()
        network.account = messages.RegistrationResource(uri=uri, body=messages.Registration())

    @_telling
    def order(self, hosts: list[str], key: str) -> messages.OrderResource:
        """Orders a certificate for `hosts` and the private key `key` (PEM)."""
        return self._client.new_order(crypto_util.make_csr(key.encode(), list(hosts)))

    @_telling
    def proofs(self, order: messages.OrderResource, kind: str) -> list[tuple[Proof, messages.ChallengeBody]]:
        """What has to be shown for this order; nothing for names that are proven still."""
        found = []
        for authorization in order.authorizations:
            body = authorization.body
            if body.status == messages.STATUS_VALID:
                continue
            host = str(body.identifier.value)
            offered = next((c for c in body.challenges if isinstance(c.chall, _KINDS[kind])), None)
            if offered is None:
                kinds = ", ".join(sorted({str(c.typ) for c in body.challenges})) or "nothing"
                raise AuthorityError(f"{host}: the authority offers {kinds}, not {kind}")
            token = offered.chall.encode("token")
            found.append((Proof(kind, host, token, offered.chall.key_authorization(self._key)), offered))
        return found

    @_telling
    def answer(self, challenge: messages.ChallengeBody) -> None:
        """Tells the authority to look."""
        self._client.answer_challenge(challenge, challenge.chall.response(self._key))

    @_telling
    def proven(self, order: messages.OrderResource) -> bool:
        """Whether the authority has seen all proofs. Raises when it has refused one."""
        done = True
        for authorization in order.authorizations:
            current, _ = self._client.poll(authorization)
            status = current.body.status
            if status in (messages.STATUS_PENDING, messages.STATUS_PROCESSING):
                done = False
            elif status != messages.STATUS_VALID:
                why = [c.error for c in current.body.challenges if c.error is not None]
                told = f"{why[0].code or why[0].typ}: {why[0].detail}" if why else f"it is {status.name}"
                raise AuthorityError(f"{current.body.identifier.value} is refused: {told}")
        return done

    @_telling
    def finalize(self, order: messages.OrderResource) -> None:
        """Asks for the certificate."""
        self._client.begin_finalization(order)

    @_telling
    def chain(self, order: messages.OrderResource) -> str | None:
        """The certificate with its chain, PEM; None while it is being made."""
        response = self._client._post_as_get(order.uri)
        body = messages.Order.from_json(response.json())
        if body.status == messages.STATUS_INVALID:
            raise AuthorityError(f"the order has failed: {body.error or 'no detail'}")
        if body.status != messages.STATUS_VALID or body.certificate is None:
            return None
        return self._client._post_as_get(body.certificate).text

    @_telling
    def advice(self, chain: str) -> tuple[float | None, float]:
        """When to renew (ARI), if the server says so, and when to ask again; seconds since the epoch."""
        when, again = self._client.renewal_time(chain.encode())
        return (when.timestamp() if when is not None else None), again.timestamp()

    def _account_key(self) -> JWK:
        file = self._storage.account_key
        if file.exists():
            try:
                key = serialization.load_pem_private_key(files.read(file, files.MAX_PEM)[0], None)
            except (files.Unreadable, ValueError, TypeError):
                raise AuthorityError(f"the account key `{file}` cannot be read; delete it for a new account") from None
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise AuthorityError(f"the account key `{file}` is not an ECDSA key")
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            self._storage.prepare()
            files.write(file, key_text(key).encode())
        return JWKEC(key=key)

    def _known_account(self) -> str | None:
        try:
            found = orjson.loads(files.read(self._storage.account, 64 << 10)[0])
            same = found["directory"] == self.account.directory and found["email"] == self.account.email
            return str(found["uri"]) if same else None
        except (files.Unreadable, ValueError, KeyError, TypeError):
            return None

    def _register(self) -> str:
        """Makes an account, or finds the one this key has; its contact is brought up to date."""
        account = self.account
        binding = None
        if account.binding_id:
            binding = messages.ExternalAccountBinding.from_data(
                self._key.public_key(), account.binding_id, binding_key(account.binding_key), self._client.directory
            )
        wanted = messages.NewRegistration.from_data(
            email=account.email or None, terms_of_service_agreed=True, external_account_binding=binding
        )
        try:
            uri = str(self._client.new_account(wanted).uri)
        except errors.ConflictError as e:
            uri = str(e.location)
            known = messages.RegistrationResource(uri=uri, body=messages.Registration())
            self._client.net.account = known
            if account.email:
                contact = messages.UpdateRegistration.from_data(email=account.email)
                self._client._send_recv_regr(known, contact)
        value = {"uri": uri, "directory": account.directory, "email": account.email}
        files.write(self._storage.account, orjson.dumps(value))
        return uri

    def forget(self) -> None:
        """The server knows nothing of the account any more: the next `open` registers again."""
        self._storage.account.unlink(missing_ok=True)


def _innermost(error: BaseException) -> str:
    """The text of the cause: the libraries wrap it several times."""
    seen = 0
    while seen < 8:
        reason = getattr(error, "reason", None)
        inner = (
            reason
            if isinstance(reason, BaseException)
            else next((a for a in error.args if isinstance(a, BaseException)), None)
        )
        if inner is None:
            break
        error, seen = inner, seen + 1
    return str(error) or type(error).__name__


def _library_text(error: Exception) -> str:
    first = error.args[0] if error.args else ""
    if isinstance(first, requests.Response):
        return f"status {first.status_code}"
    return str(error) or "no detail"


def _printable(text: str) -> str:
    """Text from outside as it may stand in a log."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "…"
