"""Webhooks: to whom nothing is sent, what is sent, and that an answer costs neither time nor memory without bound."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import ipaddress
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import programs

import tracekeeper as tk
from tracekeeper.scoring.alerts import addresses, deliveries, webhooks
from tracekeeper.scoring.alerts.addresses import PrivateAddressError, why_private
from tracekeeper.scoring.alerts.checks import check_alerts
from tracekeeper.scoring.alerts.webhooks import Answer, send, target_of
from tracekeeper.store.alerts.alerts import AlertRow, EventRow
from tracekeeper.tracing.keeper import Keeper

SECOND = 10**9


class Receiver:
    """A real HTTP server on this machine that keeps what it gets; ``answer`` decides what it says."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] = lambda handler: reply(handler, 204)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                receiver.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?x=1"

    @contextmanager
    def serving(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join(10)


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, text: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as made:
        yield made


# -- to whom nothing is sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "private"),
        ("240.0.0.1", "private"),
        ("255.255.255.255", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("192.0.2.1", "private"),
        ("198.18.0.1", "private"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::10.0.0.1", "private"),
        ("2002:0a00:0001::", "private"),
        ("2002:7f00:0001::1", "loopback"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b:1::1", "private"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "private"),
        ("4000::1", "reserved"),
    ],
)
def test_an_address_that_is_not_public_is_known_as_such(address: str, why: str) -> None:
    assert why_private(ipaddress.ip_address(address)) == why


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"),
        *("64:ff9b::808:808", "2002:808:808::1", "169.253.0.1", "223.255.255.255"),
    ],
)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert why_private(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"),
        *("LOCALHOST.", "db.localhost", "10.0.0.1", "[fe80::1]", "169.254.169.254", "0"),
    ],
)
def test_a_host_that_says_itself_that_it_is_private_is_refused_when_it_is_given(host: str) -> None:
    with pytest.raises(PrivateAddressError, match="allow_private=True sends there nonetheless"):
        target_of(f"http://{host}/x")
    assert target_of(f"http://{host}/x", allow_private=True).path == "/x"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "expected a URL"),
        ("hooks.example.com/x", "begins with https://"),
        ("file:///etc/passwd", "begins with https://"),
        ("gopher://a.example/", "begins with https://"),
        ("http://", "has a host"),
        ("http://a.example:99999/", "this is no URL"),
        ("http://a.example:x/", "this is no URL"),
        ("http://[::1/", "this is no URL"),
        ("http://user@a.example/", "no user name or password"),
        ("http://user:pass@a.example/", "no user name or password"),
        ("http://a.example/a b", "without spaces"),
        ("http://a.example/\r\nX: y", "without spaces"),
        ("http://a..example/", "is no name of a host"),
    ],
)
def test_what_is_no_webhook_is_said_in_one_sentence(url: str, said: str) -> None:
    with pytest.raises(tk.ConfigurationError) as caught:
        target_of(url)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names resolve to these addresses, another list each time; the names that were asked for."""
    asked: list[str] = []
    left = list(answers)

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    return asked


def test_a_name_with_any_private_address_is_refused_when_it_is_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    answer = send(f"http://hooks.example.com:{receiver.port}/x", "msg_1", {})
    assert answer.status is None
    assert "hooks.example.com resolves to 127.0.0.1, a loopback address" in answer.text
    assert not answer.refused, "a name can be mended: it is tried again"
    assert receiver.got == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what the name resolves to a moment later is of no interest."""
    asked = resolving(monkeypatch, ["127.0.0.1"], ["10.255.255.1"])
    answer = send(f"http://hooks.example.com:{receiver.port}/x", "msg_1", {}, allow_private=True)
    assert answer.ok
    assert asked == ["hooks.example.com"]
    [(_, head, _)] = receiver.got
    assert head["host"] == f"hooks.example.com:{receiver.port}"


def test_the_next_address_is_taken_when_one_does_not_answer(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    assert send(f"http://hooks.example.com:{receiver.port}/x", "msg_1", {}, allow_private=True).ok


def test_tls_is_checked_against_the_name_and_spoken_with_the_checked_address(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=hooks.example.com",
            ),
            *("-addext", "subjectAltName=DNS:hooks.example.com", "-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=False,
        timeout=60,
    )
    if made.returncode:
        pytest.skip("no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    resolving(monkeypatch, ["127.0.0.1"])
    url = f"https://hooks.example.com:{receiver.port}/x"
    assert "CERTIFICATE_VERIFY_FAILED" in send(url, "msg_1", {}, allow_private=True).text
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert send(url, "msg_2", {}, allow_private=True).ok
    assert names == ["hooks.example.com"] * 2
    other = send(url.replace("hooks", "other"), "msg_3", {}, allow_private=True)
    assert "CERTIFICATE_VERIFY_FAILED" in other.text, "a certificate for another name"


# -- what is sent, and what comes back --------------------------------------------------------------------------------


def test_a_message_is_signed_as_standard_webhooks_has_it(receiver: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    before = int(time.time())
    answer = send(receiver.url, "msg_1", {"type": "alert.test", "text": "wär"}, secret=secret, allow_private=True)
    assert (answer.ok, str(answer)) == (True, "204 No Content")
    [(path, head, body)] = receiver.got
    assert path == "/hook?x=1"
    assert json.loads(body) == {"type": "alert.test", "text": "wär"}
    assert head["content-type"] == "application/json"
    assert head["webhook-id"] == "msg_1"
    assert before <= int(head["webhook-timestamp"]) <= time.time()
    signed = b"msg_1." + head["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(b"0123456789abcdef01234567", signed, hashlib.sha256).digest()).decode()
    assert head["webhook-signature"] == f"v1,{expected}"


def test_a_secret_that_is_any_text_signs_by_its_bytes(receiver: Receiver) -> None:
    send(receiver.url, "msg_1", {}, secret="hunter2", allow_private=True)
    [(_, head, body)] = receiver.got
    signed = b"msg_1." + head["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(b"hunter2", signed, hashlib.sha256).digest()).decode()
    assert head["webhook-signature"] == f"v1,{expected}"


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    send(receiver.url, "msg_1", {}, allow_private=True)
    assert "webhook-signature" not in receiver.got[0][1]


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda handler: reply(handler, 302, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    answer = send(receiver.url, "msg_1", {}, allow_private=True)
    assert (answer.status, answer.ok) == (302, False)
    assert [path for path, _, _ in receiver.got] == ["/hook?x=1"]


def test_what_came_back_is_said_in_few_words(receiver: Receiver) -> None:
    receiver.answer = lambda handler: reply(handler, 500, b"out of\n  order " * 100)
    answer = send(receiver.url, "msg_1", {}, allow_private=True)
    assert str(answer).startswith("500 Internal Server Error: out of order out of order")
    assert len(str(answer)) < 300


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("120", (120, 120)), ("Wed, 21 Oct 2099 07:28:00 GMT", (1e8, 1e10)), ("soon", None), ("-5", None)],
)
def test_retry_after_is_understood(receiver: Receiver, said: str, seconds: tuple[float, float] | None) -> None:
    receiver.answer = lambda handler: reply(handler, 503, Retry_After=said)
    found = send(receiver.url, "msg_1", {}, allow_private=True).retry_after
    assert (found is None) if seconds is None else (found is not None and seconds[0] <= found <= seconds[1])


def drip(handler: http.server.BaseHTTPRequestHandler, head: bytes, pause: float) -> None:
    """An answer that begins and goes on and on, until the other side has enough."""
    try:
        handler.wfile.write(head)
        while True:
            handler.wfile.write(b"X")
            handler.wfile.flush()
            if threading.Event().wait(pause):
                return
    except OSError:
        return


def test_an_answer_that_drips_ends_at_the_deadline(receiver: Receiver) -> None:
    receiver.answer = lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\nX-Long: ", 0.02)
    begun = time.monotonic()
    answer = send(receiver.url, "msg_1", {}, allow_private=True, timeout=0.3)
    assert time.monotonic() - begun < 3
    assert answer.status is None
    assert "did not answer within 0.3 s" in answer.text


def test_a_status_that_has_come_counts_although_its_text_drips(receiver: Receiver) -> None:
    receiver.answer = lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", 0.02)
    assert send(receiver.url, "msg_1", {}, allow_private=True, timeout=0.3).ok


def test_an_answer_without_end_is_not_read_to_its_end(receiver: Receiver) -> None:
    receiver.answer = lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, 0)
    answer = send(receiver.url, "msg_1", {}, allow_private=True, timeout=5)
    assert answer.status is None
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"y" * 200_000
    receiver.answer = lambda handler: drip(handler, body, 0)
    assert send(receiver.url, "msg_2", {}, allow_private=True, timeout=5).ok


def test_nobody_there_is_an_answer_too() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answer = send(f"http://127.0.0.1:{free.getsockname()[1]}/hidden", "msg_1", {}, allow_private=True)
    assert answer.status is None
    assert "could not be reached: ConnectionRefusedError" in answer.text
    assert "hidden" not in answer.text


# -- again, until it has arrived --------------------------------------------------------------------------------------


@pytest.fixture
def fired(keeper: Keeper, receiver: Receiver) -> tuple[Keeper, Receiver]:
    """An alert that has something to say."""
    tk.log_record(input="q", output="a", app="rag", duration=5)
    assert keeper.ship(20) is None
    tk.alert("slow", measure="latency", above=2, webhook=receiver.url, secret="hunter2", allow_private=True)
    return keeper, receiver


def events(keeper: Keeper) -> list[EventRow]:
    return keeper.store().alerts.events(1)


def attempt(keeper: Keeper, now: int) -> str:
    """One attempt at what is due then, in this thread."""
    [(event, alert)] = keeper.store().alerts.claim_deliveries(now, SECOND)
    return deliveries.deliver(keeper, event, alert)


def test_what_an_alert_says_arrives(fired: tuple[Keeper, Receiver]) -> None:
    keeper, receiver = fired
    assert check_alerts(keeper) == 1
    assert deliveries.wait(30)
    [(_, head, body)] = receiver.got
    [event] = events(keeper)
    message = json.loads(body)
    assert head["webhook-id"] == event.key
    assert message["type"] == "alert.fired"
    assert message["data"]["message"] == "slow: mean latency is 5.0s, above 2.0s (n = 1 in the last 1h)"
    assert (message["data"]["value"], message["data"]["n"], message["data"]["state"]) == (5.0, 1, "firing")
    assert (event.delivery, event.attempts, event.error) == ("delivered", 1, None)
    assert "delivered just now" in str(tk.alerts()[0].delivery)
    assert check_alerts(keeper) == 0
    assert deliveries.wait(30)
    assert len(receiver.got) == 1


def test_it_is_tried_again_with_growing_pauses_and_given_up_in_the_end(fired: tuple[Keeper, Receiver]) -> None:
    keeper, receiver = fired
    receiver.answer = lambda handler: reply(handler, 500, b"no")
    check_alerts(keeper)
    assert deliveries.wait(30)
    pauses = []
    while (event := events(keeper)[0]).delivery == "pending":
        assert event.next_at is not None
        pauses.append((event.next_at - time.time_ns()) / SECOND)
        assert keeper.store().alerts.claim_deliveries(event.next_at - 1, SECOND) == []
        attempt(keeper, event.next_at)
    assert len(receiver.got) == 6
    assert len({head["webhook-id"] for _, head, _ in receiver.got}) == 1, "the receiver can tell that it is the same"
    for pause, least in zip(pauses, deliveries.PAUSES, strict=True):
        assert least - 3 <= pause <= least * 1.2 + 1
    assert (event.delivery, event.attempts) == ("failed", 6)
    assert event.error == "attempt 6: 500 Internal Server Error: no"
    assert "failed after 6 attempts: attempt 6: 500" in str(tk.alerts()[0].delivery)


def test_a_receiver_that_is_gone_is_not_asked_again(fired: tuple[Keeper, Receiver]) -> None:
    keeper, receiver = fired
    receiver.answer = lambda handler: reply(handler, 410)
    check_alerts(keeper)
    assert deliveries.wait(30)
    assert (events(keeper)[0].delivery, events(keeper)[0].attempts) == ("failed", 1)


def test_retry_after_is_heeded() -> None:
    assert deliveries.pause_after(1, Answer(503, "", 60.0)) == 60.0
    assert deliveries.pause_after(1, Answer(503, "", 1e9)) == deliveries.LONGEST_PAUSE
    assert 5.0 <= (deliveries.pause_after(1, Answer(503, "", 1.0)) or 0) <= 6.0


def test_whose_process_died_while_it_sent_is_sent_by_another_after_the_lease(fired: tuple[Keeper, Receiver]) -> None:
    keeper, receiver = fired
    receiver.answer = lambda handler: reply(handler, 503)
    check_alerts(keeper)
    assert deliveries.wait(30)
    alerts = keeper.store().alerts
    now = events(keeper)[0].next_at
    assert now is not None
    [(claimed, alert)] = alerts.claim_deliveries(now, 40 * SECOND)
    assert alerts.claim_deliveries(now + 39 * SECOND, SECOND) == [], "it is the other's"
    receiver.answer = lambda handler: reply(handler, 204)
    assert attempt(keeper, now + 40 * SECOND) == "delivered"
    assert not alerts.conclude_delivery(claimed, "failed", error="too late"), "what it says now is of no interest"
    assert events(keeper)[0].delivery == "delivered"
    assert isinstance(alert, AlertRow)


def test_a_message_that_kills_who_sends_it_is_given_up(fired: tuple[Keeper, Receiver]) -> None:
    keeper, receiver = fired
    alerts = keeper.store().alerts
    [slow] = alerts.all()
    event = EventRow(9, slow.id, "msg_9", 1, "fired", 1.0, 1, "x", "pending", 7, 1, None, "an attempt was begun")
    assert deliveries.deliver(keeper, event, slow) == "failed"
    assert receiver.got == []


def test_a_test_message_says_what_came_back(keeper: Keeper, receiver: Receiver) -> None:
    made = tk.alert("a", measure="cost", above=1, webhook=receiver.url, allow_private=True)
    assert made.test() == "delivered: 204 No Content"
    assert json.loads(receiver.got[0][2])["type"] == "alert.test"
    receiver.answer = lambda handler: reply(handler, 404, b"no such hook")
    assert made.test() == "not delivered: 404 Not Found: no such hook"
    assert events(keeper) == []


def test_a_webhook_by_name_that_is_private_is_said_when_it_is_sent(
    keeper: Keeper, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    made = tk.alert("a", measure="cost", above=1, webhook=f"http://hooks.example.com:{receiver.port}/x")
    assert "resolves to 127.0.0.1, a loopback address" in made.test()
    assert receiver.got == []
    assert webhooks.shown(f"http://hooks.example.com:{receiver.port}/x") == made.webhook


def test_a_clock_that_was_set_back_does_not_hold_a_message_for_long(fired: tuple[Keeper, Receiver]) -> None:
    keeper, receiver = fired
    receiver.answer = lambda handler: reply(handler, 503)
    check_alerts(keeper)
    assert deliveries.wait(30)
    receiver.answer = lambda handler: reply(handler, 204)
    yesterday = time.time_ns() - 86_400 * SECOND
    assert attempt(keeper, yesterday) == "delivered"


@pytest.mark.slow
def test_looking_after_alerts_loads_neither_http_nor_tls(tmp_path: Path) -> None:
    """Every process that scores does so, and the first second of a program is to stay small."""
    code = """
        import sys
        import tracekeeper as tk
        tk.configure(directory="data")
        tk.log_record(input="q", output="a")
        tk.flush()
        before = set(sys.modules)
        from tracekeeper.scoring.alerts.checks import check_alerts
        from tracekeeper.tracing import runtime
        check_alerts(runtime.keeper())
        print(sorted({"http.client", "ssl"} & (set(sys.modules) - before)))
    """
    assert programs.run(code, tmp_path).out == "[]\n"
