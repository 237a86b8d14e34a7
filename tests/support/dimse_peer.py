"""A DIMSE peer made of raw bytes: PDUs right and wrong, written from PS3.8 and PS3.7 without any of our own code."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from types import TracebackType

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")
ABORT = bytes.fromhex("07000000000400000000")

Proposed = tuple[int, str, tuple[str, ...]]
DEFAULT_CONTEXTS: tuple[Proposed, ...] = (
    (1, VERIFICATION, (IMPLICIT,)),
    (3, CT, (EXPLICIT,)),
    (5, STUDY_ROOT, (IMPLICIT,)),
)


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Any PDU; `length` to lie."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def item(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Any item or sub-item; `length` to lie."""
    return struct.pack(">BBH", kind, 0, len(body) if length is None else length) + body


def context(identifier: int, abstract_syntax: str, transfer_syntaxes: Iterable[str]) -> bytes:
    """A presentation context item of an A-ASSOCIATE-RQ."""
    inner = item(0x30, abstract_syntax.encode()) + b"".join(item(0x40, one.encode()) for one in transfer_syntaxes)
    return item(0x20, struct.pack(">BBBB", identifier, 0, 0, 0) + inner)


def user(max_length: int = 16384, *more: bytes) -> bytes:
    """A user information item; `more` are further sub-items."""
    return item(0x50, item(0x51, struct.pack(">I", max_length)) + item(0x52, b"1.2.3") + b"".join(more))


def associate(
    contexts: Iterable[Proposed] = DEFAULT_CONTEXTS,
    *,
    called: str = "LIGHTBOX",
    calling: str = "PEER",
    version: int = 1,
    application: str = APPLICATION_CONTEXT,
    user_item: bytes | None = None,
    body: bytes | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ; `body` instead of its items."""
    fixed = struct.pack(">HH", version, 0) + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    if body is None:
        body = item(0x10, application.encode())
        body += b"".join(context(*one) for one in contexts)
        body += user() if user_item is None else user_item
    return pdu(1, fixed + body)


def pdv(identifier: int, control: int, data: bytes, *, length: int | None = None) -> bytes:
    """A presentation data value; control 1 is command, 2 last, 3 both; `length` to lie."""
    return struct.pack(">IBB", len(data) + 2 if length is None else length, identifier, control) + data


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    """A P-DATA-TF."""
    return pdu(4, b"".join(pdvs), length=length)


def element(tag: int, value: bytes | str | int) -> bytes:
    """An element in Implicit VR Little Endian; integers are US."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode()
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) + len(value) % 2) + value + b"\0" * (len(value) % 2)


def command(elements: Mapping[int, bytes | str | int]) -> bytes:
    """A command set with its group length."""
    body = b"".join(element(tag, value) for tag, value in sorted(elements.items()))
    return element(0, struct.pack("<I", len(body))) + body


def echo_rq(message_id: int = 1) -> bytes:
    """C-ECHO-RQ."""
    return command({0x002: VERIFICATION, 0x100: 0x0030, 0x110: message_id, 0x800: 0x0101})


def store_rq(sop_class: str, instance: str, message_id: int = 1, data_set: int = 0) -> bytes:
    """C-STORE-RQ."""
    return command(
        {0x002: sop_class, 0x100: 0x0001, 0x110: message_id, 0x700: 0, 0x800: data_set, 0x1000: instance}
    )


def find_rq(model: str = STUDY_ROOT, message_id: int = 1, data_set: int = 0) -> bytes:
    """C-FIND-RQ."""
    return command({0x002: model, 0x100: 0x0020, 0x110: message_id, 0x700: 0, 0x800: data_set})


def cancel_rq(message_id: int = 1) -> bytes:
    """C-CANCEL-RQ."""
    return command({0x100: 0x0FFF, 0x120: message_id, 0x800: 0x0101})


def message(identifier: int, command_set: bytes, data: bytes | None = None, *, size: int = 16000) -> bytes:
    """A whole message as P-DATA PDUs, its data set in pieces of `size`."""
    sent = p_data(pdv(identifier, 3, command_set))
    if data is not None:
        for at in range(0, max(len(data), 1), size):
            sent += p_data(pdv(identifier, 2 if at + size >= len(data) else 0, data[at : at + size]))
    return sent


def read_command(data: bytes) -> dict[int, bytes]:
    """Elements of a command set by their number."""
    found, at = {}, 0
    while at < len(data):
        group, number, length = struct.unpack_from("<HHI", data, at)
        assert group == 0
        found[number] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def status_of(answer: Mapping[int, bytes]) -> int:
    """(0000,0900)."""
    return int(struct.unpack("<H", answer[0x900])[0])


class Peer:
    """A socket, and the reading of PDUs from it. Use as a context manager."""

    def __init__(self, port: int, *, timeout: float = 20, host: str = "127.0.0.1", source: str = "") -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout, source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Write all of it."""
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Exactly so many bytes, fewer only at the end of the stream."""
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU's type and body; type 0 at the end of the stream."""
        header = self.read(6)
        if len(header) < 6:
            return 0, b""
        kind, _, length = struct.unpack(">BBI", header)
        return kind, self.read(length)

    def associate(self, contexts: Iterable[Proposed] = DEFAULT_CONTEXTS, **given: str | int | bytes) -> bytes:
        """Ask for an association that must be accepted; the body of the A-ASSOCIATE-AC."""
        self.send(associate(contexts, **given))  # type: ignore[arg-type]
        kind, body = self.pdu()
        assert kind == 2, f"answered by PDU type {kind}: {body!r}"
        return body

    def answer(self) -> tuple[dict[int, bytes], bytes]:
        """The next message: its command set, and its data set where it has one."""
        parts: dict[int, bytearray] = {1: bytearray(), 0: bytearray()}
        while True:
            kind, body = self.pdu()
            assert kind == 4, f"answered by PDU type {kind}: {body!r}"
            at = 0
            while at < len(body):
                length, _, control = struct.unpack_from(">IBB", body, at)
                parts[control & 1] += body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & 2 and (not control & 1 or _alone(parts[1])):
                    return read_command(bytes(parts[1])), bytes(parts[0])

    def echo(self, identifier: int = 1, message_id: int = 1) -> int:
        """The status of a C-ECHO."""
        self.send(message(identifier, echo_rq(message_id)))
        return status_of(self.answer()[0])

    def store(self, data: bytes, instance: str, *, sop_class: str = CT, identifier: int = 3, message_id: int = 1) -> int:
        """The status of a C-STORE of a bare data set."""
        self.send(message(identifier, store_rq(sop_class, instance, message_id), data))
        return status_of(self.answer()[0])

    def release(self) -> None:
        """End the association in good order."""
        self.send(RELEASE_RQ)
        kind, _ = self.pdu()
        assert kind == 6, f"release answered by PDU type {kind}"


def _alone(command_set: bytes | bytearray) -> bool:
    return read_command(bytes(command_set))[0x800] == b"\x01\x01"
