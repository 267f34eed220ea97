"""A plain Kubernetes API client for the suites: what goes over the wire is what the test says. Reads a kubeconfig file."""
import base64
import http.client
import json
import pathlib
import ssl
import tempfile
import urllib.parse

import yaml


class Api:
    """One server. Calls return (status code, decoded body); nothing is retried."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(pathlib.Path(kubeconfig).read_text())
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        self.url = urllib.parse.urlparse(cluster["server"])
        folder = pathlib.Path(kubeconfig).parent
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token := user.get("token") or ("tokenFile" in user and (folder / user["tokenFile"]).read_text().strip()):
            self.headers["Authorization"] = "Bearer " + token
        with tempfile.TemporaryDirectory() as files:
            def file(source, name):
                if name + "-data" in source:
                    path = pathlib.Path(files) / name
                    path.write_bytes(base64.b64decode(source[name + "-data"]))
                    return str(path)
                return str(folder / source[name]) if name in source else None
            self.context = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
            if certificate := file(user, "client-certificate"):
                self.context.load_cert_chain(certificate, file(user, "client-key"))

    def call(self, method, path, body=None, content_type=None, headers=None):
        connection = http.client.HTTPSConnection(self.url.hostname, self.url.port or 443, context=self.context, timeout=30)
        try:
            sent = {**self.headers, **({"Content-Type": content_type} if content_type else {}), **(headers or {})}
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read()
            try:
                return answer.status, json.loads(text)
            except json.JSONDecodeError:
                return answer.status, text.decode(errors="replace")
        finally:
            connection.close()

    def stream(self, path):
        """The lines of an answer as they come (a watch); ends when the server or the connection does."""
        connection = http.client.HTTPSConnection(self.url.hostname, self.url.port or 443, context=self.context, timeout=30)
        try:
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"GET {path}: {answer.status}")
            while line := answer.readline():
                yield line
        finally:
            connection.close()
