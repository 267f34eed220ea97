"""An HTTP proxy on loopback that opens tunnels (CONNECT) for who has the right user and password: what stands between a laptop and a company's cluster."""
import base64
import socket
import threading


class TunnelProxy:
    def __init__(self, user, password):
        self.wanted = "basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.refuses, self.opened, self.refused = False, 0, 0
        self.running, self.lock = set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.authority = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self, refuses):
        """From now on; the tunnels that are open end."""
        self.refuses = refuses
        self._cut()

    def close(self):
        self.listener.close()
        self._cut()

    def _cut(self):
        with self.lock:
            for end in self.running:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # It has ended by itself.

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                more = client.recv(4096)
                if not more:
                    return
                head += more
            lines = head.decode().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            if self.refuses or not fields.get("proxy-authorization", "").lower() == self.wanted.lower():
                self.refused += 1
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            verb, target, _ = lines[0].split()
            assert verb == "CONNECT", lines[0]
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self.opened += 1
                with self.lock:
                    self.running |= {client, server}
                back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
                back.start()
                self._pass(client, server)
                back.join()
                with self.lock:
                    self.running -= {client, server}

    @staticmethod
    def _pass(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass  # Cut.
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
