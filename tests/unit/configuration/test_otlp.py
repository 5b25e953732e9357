"""The settings of copies: refused at once, with a reason, and never shown where they are secret."""

from __future__ import annotations

from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.configuration import values
from tracekeeper.shipper.copies.endpoint import Endpoint


@pytest.mark.parametrize("url", ["http://collector:4318", "https://c.example/otlp", "http://[::1]:4318/v1/traces"])
def test_a_url_is_taken(url: str) -> None:
    assert tk.configure(otlp_endpoint=url).otlp_endpoint == url
    assert Endpoint.of(url).url.endswith("/v1/traces")
    assert Endpoint.of(url).url.count("/v1/traces") == 1


@pytest.mark.parametrize("url", ["collector:4318", "grpc://c:4317", "http://", "http://c:99999", "http://a b", 7])
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(tk.ConfigurationError, match=r"otlp_endpoint=.*expected a URL such as http://collector:4318"):
        tk.configure(otlp_endpoint=url)


@pytest.mark.parametrize("url", ["http://user:pass@c:4318", "http://c:4318?key=secret"])
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(tk.ConfigurationError, match="otlp_headers") as refused:
        tk.configure(otlp_endpoint=url)
    assert "pass" not in str(refused.value).replace("password", "")
    assert "secret" not in str(refused.value).replace("is secret", "")


def test_without_the_messages_the_line_that_installs_them_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_is_installed", lambda module: False)
    with pytest.raises(tk.MissingExtraError, match=r"pip install 'tracekeeper\[otlp\]'"):
        tk.configure(otlp_endpoint="http://collector:4318")
    assert tk.settings().otlp_endpoint is None


def test_headers_are_a_mapping_or_text_and_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tk.configure(otlp_headers={"api-key": "k"}).otlp_headers == {"api-key": "k"}
    changed = tk.configure(otlp_headers="api-key=a%20b, x = y=z ,")
    assert changed.otlp_headers == {"api-key": "a b", "x": "y=z"}
    assert "a b" not in repr(changed)
    assert tk.configure(otlp_headers=None).otlp_headers is None


@pytest.mark.parametrize(
    "headers", ["no equals sign", ["a"], {"bad name": "x"}, {"a": 7}, {"a": "x\r\nInjected: y"}, {"a": "ü"}]
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any) -> None:
    with pytest.raises(tk.ConfigurationError, match="otlp_headers"):
        tk.configure(otlp_headers=headers)


def test_they_belong_to_the_process() -> None:
    with pytest.raises(tk.ConfigurationError, match="whole process"):
        tk.context(otlp_endpoint="http://c:4318")
