#!/usr/bin/env python3
"""A git server over HTTP for tests: git http-backend behind http.server, on 127.0.0.1 (or --address) and a free port.

The first path segment chooses how it behaves:
  /open/REPO      serves ROOT/REPO
  /private/REPO   the same, with basic authentication (--user, --password); a wrong answer echoes what it got, as rude servers do
  /hang/REPO      accepts the request and never answers
  /stall/REPO     sends the head of an answer, then nothing
  /redirect/REPO  302 to /open/REPO
  /endless/REPO   a ref list without an end
  /fail/REPO      500
Prints `port N` on stdout, then one line for each request: `METHOD PATH`.
"""
import argparse
import base64
import http.server
import os
import socket
import subprocess
import sys
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_git(b"")

    def do_POST(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while True:
                size = int(self.rfile.readline().strip(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.handle_git(body)

    def handle_git(self, body):
        sys.stdout.write(f"{self.command} {self.path}\n")
        sys.stdout.flush()
        url = urllib.parse.urlsplit(self.path)
        mode, _, rest = url.path.lstrip("/").partition("/")
        if mode == "hang":
            self.server.stopping.wait()
        elif mode == "stall":
            self.send_head(200, [("Content-Type", "application/x-git-upload-pack-advertisement"), ("Content-Length", "1000000")])
            self.server.stopping.wait()
        elif mode == "redirect":
            where = "/open/" + rest + ("?" + url.query if url.query else "")
            self.send_head(302, [("Location", where), ("Content-Length", "0")])
        elif mode == "endless":
            self.endless()
        elif mode == "fail":
            self.answer(500, b"broken\n")
        elif mode == "private" and not self.allowed():
            self.answer(401, b"no: " + self.headers.get("Authorization", "nothing").encode(), [("WWW-Authenticate", 'Basic realm="git"')])
        elif mode in ("open", "private"):
            self.backend(rest, url.query, body)
        else:
            self.answer(404, b"not here\n")

    def allowed(self):
        want = base64.b64encode(f"{self.server.options.user}:{self.server.options.password}".encode()).decode()
        return self.headers.get("Authorization") == "Basic " + want

    def endless(self):
        self.send_head(200, [("Content-Type", "application/x-git-upload-pack-advertisement"), ("Connection", "close")])
        try:
            self.wfile.write(b"001e# service=git-upload-pack\n0000")
            for number in range(10_000_000):
                self.wfile.write(b"0046" + b"1" * 40 + b" refs/heads/endless-%09d\n" % number)
        except OSError:
            pass

    def backend(self, path, query, body):
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "GIT_PROJECT_ROOT": self.server.options.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": "/" + path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        self.answer(status, content, headers)

    def send_head(self, status, headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def answer(self, status, content, headers=()):
        self.send_head(status, [*headers, ("Content-Length", str(len(content)))])
        self.wfile.write(content)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--user", default="bot")
    parser.add_argument("--password", default="")
    parser.add_argument("--address", default="127.0.0.1")
    options = parser.parse_args()
    if ":" in options.address:
        http.server.ThreadingHTTPServer.address_family = socket.AF_INET6
    server = http.server.ThreadingHTTPServer((options.address, 0), Handler)
    server.daemon_threads = True
    server.request_queue_size = 64
    server.options = options
    server.stopping = threading.Event()
    print(f"port {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
