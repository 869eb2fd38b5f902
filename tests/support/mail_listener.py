"""A mail server on loopback: takes what is sent, and remembers it."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mailbox:
    """What has arrived: recipients of the envelope, and the message."""

    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)


@contextlib.contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A server while the block lasts; as much of SMTP (RFC 5321) as a client needs to send a message."""
    mailbox = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipients: list[str] = []
            self.answer("220 here")
            for line in self.rfile:
                command = line.decode().strip()
                verb = command[:4].upper()
                if verb == "RCPT":
                    recipients.append(command.split("<", 1)[1].split(">", 1)[0])
                elif verb == "DATA":
                    self.answer("354 go on")
                    text = b"".join(iter(self.rfile.readline, b".\r\n"))
                    mailbox.mails.append((recipients, message_from_bytes(text, policy=policy.default)))
                elif verb == "QUIT":
                    self.answer("221 bye")
                    return
                self.answer("250 ok")

        def answer(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mailbox.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield mailbox
    finally:
        server.shutdown()
        server.server_close()
