"""A proxy between the operator and a real API server, with the API server's own certificate: what a broken load balancer or a slow watch cache does.

`unavailable()` answers every request with 503 and ends the watches that run; `delay_watches(s)` hands on each piece of a watch s seconds after it came,
so that nobody sees their own writes for that long; `freeze_watches(s)` hands nothing on for s seconds, then everything; `skip(s)` ends the watches, lets
none begin for s seconds, and then only with a new initial set: what came and went in between is seen by nobody. `healthy()` ends all of it. `before`
looks at each request's target before it is passed on and may answer it with a Status of its own; `written` hears of each write that was answered.
Requests are counted by what was answered. What asks for another protocol (exec) is passed through.
"""
import collections
import http.client
import http.server
import json
import select
import socket
import ssl
import threading
import time
import urllib.parse

def status(code, reason, message):
    return code, json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message}).encode()


GONE = status(410, "Expired", "the proxy says: too old resource version")
DOWN = status(503, "ServiceUnavailable", "the proxy says: service unavailable")
HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class ApiProxy:
    def __init__(self, cluster_folder, api_port):
        pki = cluster_folder / "pki"
        self.api_port, self.down, self.delay, self.answers = api_port, False, 0.0, collections.Counter()
        self.before = lambda target: None  # Or status(...), which is then the answer.
        self.written = lambda method, target: None
        self.frozen = self.away = 0.0  # Until when.
        self.stale_versions = False  # A watch that goes on from a version is refused.
        self.upstream = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self.running, self.lock = set(), threading.Lock()  # Connections to the API server that carry a watch.
        self.ending = set()  # Those of them whose end is to look as if the API server had ended the watch.
        handler = type("Handler", (Handler,), {"proxy": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        # The handshake is each connection's own thread's: one that hangs holds up nobody.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"

    def unavailable(self):
        self.down = True
        self.cut()

    def delay_watches(self, seconds):
        """From now on, for watches that run too."""
        self.delay = seconds

    def freeze_watches(self, seconds):
        self.frozen = time.monotonic() + seconds

    def skip(self, seconds):
        self.away, self.stale_versions = time.monotonic() + seconds, True
        self.cut()

    def healthy(self):
        self.down, self.delay, self.frozen, self.away, self.stale_versions = False, 0.0, 0.0, 0.0, False

    def watch_begins(self, target):
        """Waits while watches are away. An answer of our own, or None."""
        query = urllib.parse.parse_qs(urllib.parse.urlparse(target).query)
        if "watch" not in query:
            return None
        time.sleep(max(0.0, self.away - time.monotonic()))
        fresh = "sendInitialEvents" in query or "resourceVersion" not in query
        return GONE if self.stale_versions and not fresh else None

    def end_watches(self):
        """Ends the watches that run, as their time-out does."""
        with self.lock:
            self.ending |= self.running
        self.cut()

    def cut(self):
        """Breaks the watches that run."""
        with self.lock:
            running = list(self.running)
        for connection in running:
            try:
                connection.sock.shutdown(2)
            except (OSError, AttributeError):
                pass

    def close(self):
        self.cut()
        self.server.shutdown()
        self.server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ssl.SSLError, http.client.HTTPException):
            self.close_connection = True

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        own = DOWN if self.proxy.down else self.proxy.before(self.path) or self.proxy.watch_begins(self.path)
        if own:
            code, text = own
            self.proxy.answers[code] += 1
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        if self.headers.get("Upgrade"):
            self._tunnel()
            return
        connection = http.client.HTTPSConnection("127.0.0.1", self.proxy.api_port, context=self.proxy.upstream, timeout=300)
        try:
            connection.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() not in HOP | {"host", "accept-encoding"}})
            answer = connection.getresponse()
            self.proxy.answers[answer.status] += 1
            if self.command != "GET":
                self.proxy.written(self.command, self.path)
            watch = "watch" in urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query) and answer.status == 200
            (self._stream if watch else self._whole)(connection, answer)
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _tunnel(self):
        """The request as it is, then whatever either side sends, until one ends."""
        self.close_connection = True
        with self.proxy.upstream.wrap_socket(socket.create_connection(("127.0.0.1", self.proxy.api_port), 30), server_hostname="127.0.0.1") as server:
            server.sendall(f"{self.requestline}\r\n{self.headers}".encode("latin-1"))
            other = {self.connection: server, server: self.connection}
            while ready := [s for s in other if s.pending()] or select.select(list(other), [], [], 300)[0]:
                for side in ready:
                    piece = side.recv(1 << 16)
                    if not piece:
                        return
                    other[side].sendall(piece)

    def _head(self, answer, *more):
        self.send_response(answer.status)
        for name, value in [*((k, v) for k, v in answer.getheaders() if k.lower() not in HOP), *more]:
            self.send_header(name, value)
        self.end_headers()

    def _whole(self, _connection, answer):
        body = answer.read()
        self._head(answer, ("Content-Length", str(len(body))))
        self.wfile.write(body)

    def _stream(self, connection, answer):
        """Whole pieces in their order, each when its time has come; the end of the watch too."""
        pieces, more = collections.deque(), threading.Condition()
        with self.proxy.lock:
            self.proxy.running.add(connection)

        def read():
            while True:
                try:
                    piece = answer.read1(1 << 16)
                except (OSError, http.client.HTTPException, ValueError, AttributeError):  # Closed in the middle of a read.
                    piece = None
                if piece is None and connection in self.proxy.ending:
                    piece = b""
                with more:
                    pieces.append((time.monotonic() + self.proxy.delay, piece))
                    more.notify()
                if not piece:
                    return

        threading.Thread(target=read, daemon=True).start()
        try:
            self._head(answer, ("Transfer-Encoding", "chunked"))
            while True:
                with more:
                    while not pieces:
                        more.wait()
                    due, piece = pieces.popleft()
                if piece is None:
                    self.close_connection = True  # Cut: no end of the body.
                    return
                while (wait := max(due, self.proxy.frozen) - time.monotonic()) > 0:
                    time.sleep(wait)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                if not piece:
                    return
        finally:
            with self.proxy.lock:
                self.proxy.running.discard(connection)
                self.proxy.ending.discard(connection)
            try:
                connection.sock.shutdown(2)
            except (OSError, AttributeError):
                pass
