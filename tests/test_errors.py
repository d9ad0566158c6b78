import pytest

from bridge import errors


def leaves(kind: type[errors.BridgeError]) -> list[type[errors.BridgeError]]:
    below = kind.__subclasses__()
    return [kind, *(leaf for child in below for leaf in leaves(child))]


@pytest.mark.parametrize("kind", leaves(errors.BridgeError))
def test_every_error_has_an_answer(kind: type[errors.BridgeError]) -> None:
    assert 400 <= kind.http_status <= 599
    assert 400 <= kind.sip_status <= 699
    assert kind.type in {"invalid_request_error", "server_error"}


def test_code_and_param_can_be_told() -> None:
    error = errors.RequestError("no", code="unknown_parameter", param="session.x")
    assert (error.code, error.param, error.message) == ("unknown_parameter", "session.x", "no")
    assert errors.RequestError("no").code == "invalid_value"
