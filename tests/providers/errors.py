"""Each provider's own error: status, body and headers of a `Refused`.

Where a provider's wrong-key answer is not 401, that is the provider's way: Gemini says 400, xAI 400, Bedrock 403.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.providers.wire import Headers, Kind, Refused, Whole

Shape = Callable[[Refused, str, str], Whole]
"""Refusal, request id, model → answer."""

_OPENAI_TYPES: dict[Kind, tuple[str, str | None]] = {
    "authentication": ("invalid_request_error", "invalid_api_key"),
    "permission": ("invalid_request_error", "model_not_found"),
    "not_found": ("invalid_request_error", "model_not_found"),
    "context": ("invalid_request_error", "context_length_exceeded"),
    "rate_limit": ("requests", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "server": ("server_error", None),
    "unavailable": ("server_error", None),
    "overloaded": ("server_error", None),
    "timeout": ("server_error", None),
}


def openai_error(refused: Refused) -> dict[str, Any]:
    type_, code = _OPENAI_TYPES.get(refused.kind, ("invalid_request_error", None))
    return {"message": refused.message, "type": type_, "param": refused.param, "code": refused.code or code}


def openai(refused: Refused, request_id: str, model: str) -> Whole:
    return Whole.json({"error": openai_error(refused)}, status=refused.status)


def azure(refused: Refused, request_id: str, model: str) -> Whole:
    codes: dict[Kind, str] = {"authentication": "401", "not_found": "DeploymentNotFound", "rate_limit": "429"}
    if refused.kind in codes:
        return Whole.json({"error": {"code": codes[refused.kind], "message": refused.message}}, status=refused.status)
    return openai(refused, request_id, model)


_ANTHROPIC_TYPES: dict[Kind, str] = {
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "quota": "billing_error",
    "timeout": "timeout_error",
    "server": "api_error",
    "unavailable": "api_error",
    "overloaded": "overloaded_error",
}


def anthropic_error(refused: Refused) -> dict[str, str]:
    return {"type": _ANTHROPIC_TYPES.get(refused.kind, "invalid_request_error"), "message": refused.message}


def anthropic(refused: Refused, request_id: str, model: str) -> Whole:
    body = {"type": "error", "error": anthropic_error(refused), "request_id": request_id}
    return Whole.json(body, status=refused.status)


_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def google_error(refused: Refused) -> dict[str, Any]:
    error: dict[str, Any] = {
        "code": refused.status,
        "message": refused.message,
        "status": _GOOGLE_STATUS.get(refused.status, "UNKNOWN"),
    }
    if refused.kind == "authentication" and refused.status == 400:
        error["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }
        ]
    if refused.kind == "rate_limit":
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]
    return error


def google(refused: Refused, request_id: str, model: str) -> Whole:
    return Whole.json({"error": google_error(refused)}, status=refused.status)


_AMAZON_TYPES: dict[Kind, str] = {
    "authentication": "UnrecognizedClientException",
    "permission": "AccessDeniedException",
    "not_found": "ResourceNotFoundException",
    "timeout": "ModelTimeoutException",
    "rate_limit": "ThrottlingException",
    "quota": "ServiceQuotaExceededException",
    "server": "InternalServerException",
    "unavailable": "ServiceUnavailableException",
    "overloaded": "ServiceUnavailableException",
}


def amazon_type(refused: Refused) -> str:
    return refused.code or _AMAZON_TYPES.get(refused.kind, "ValidationException")


def amazon(refused: Refused, request_id: str, model: str) -> Whole:
    headers: Headers = [("x-amzn-errortype", amazon_type(refused))]
    return Whole.json({"message": refused.message}, status=refused.status, headers=headers)


def cohere(refused: Refused, request_id: str, model: str) -> Whole:
    body = {"id": str(uuid.uuid5(uuid.NAMESPACE_OID, request_id)), "message": refused.message}
    return Whole.json(body, status=refused.status)


def mistral(refused: Refused, request_id: str, model: str) -> Whole:
    if refused.kind == "authentication":
        return Whole.json({"detail": "Unauthorized"}, status=401)
    types: dict[Kind, tuple[str, str]] = {
        "rate_limit": ("rate_limited", "1300"),
        "not_found": ("invalid_model", "1500"),
        "server": ("internal_server_error", "1000"),
    }
    type_, code = types.get(refused.kind, ("invalid_request_error", "3051"))
    body = {"object": "error", "message": refused.message, "type": type_, "param": refused.param, "code": code}
    return Whole.json(body, status=refused.status)


def deepseek(refused: Refused, request_id: str, model: str) -> Whole:
    error = openai_error(refused)
    if refused.kind == "authentication":
        error |= {"type": "authentication_error", "code": "invalid_request_error"}
    return Whole.json({"error": error}, status=refused.status)


def xai(refused: Refused, request_id: str, model: str) -> Whole:
    """`error` is a text here."""
    codes: dict[Kind, str] = {
        "authentication": "Client specified an invalid argument",
        "permission": "The caller does not have permission to execute the specified operation",
        "not_found": "Some requested entity was not found",
        "rate_limit": "Some resource has been exhausted",
    }
    body = {"code": codes.get(refused.kind, "Internal error"), "error": refused.message}
    return Whole.json(body, status=400 if refused.kind == "authentication" else refused.status)


def openrouter(refused: Refused, request_id: str, model: str) -> Whole:
    """`code` is the status, as a number."""
    return Whole.json({"error": {"message": refused.message, "code": refused.status}}, status=refused.status)


def fireworks(refused: Refused, request_id: str, model: str) -> Whole:
    error = openai_error(refused) | {"object": "error"}
    if refused.kind == "not_found":
        error["code"] = "NOT_FOUND"
    return Whole.json({"error": error}, status=refused.status)


def ollama(refused: Refused, request_id: str, model: str) -> Whole:
    error = {"message": refused.message, "type": "api_error", "param": None, "code": None}
    if refused.kind == "not_found":
        error |= {"message": f'model "{model}" not found, try pulling it first', "type": "not_found_error"}
    return Whole.json({"error": error}, status=refused.status)


def vllm(refused: Refused, request_id: str, model: str) -> Whole:
    if refused.kind == "authentication":
        return Whole.json({"error": "Unauthorized"}, status=401)
    types: dict[Kind, str] = {"not_found": "NotFoundError", "server": "InternalServerError"}
    type_ = types.get(refused.kind, "BadRequestError")
    error = {"message": refused.message, "type": type_, "param": refused.param, "code": refused.status}
    return Whole.json({"error": error}, status=refused.status)
