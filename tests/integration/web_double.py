"""web_double: an https server that answers what a test says."""
import http.server
import json
import os
import ssl
import threading

from harness import openssl


class Endpoint:
    """https under a test CA; .answer is (status, headers, body), or a function of the handler that answers itself."""

    def __init__(self, folder):
        self.ca, self.ca_key = os.path.join(folder, "ca.crt"), os.path.join(folder, "ca.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                self.ca_key, "-out", self.ca, "-subj", "/CN=test web CA", "-days", "2")
        crt, key = self.leaf(folder, "web", "DNS:localhost,IP:127.0.0.1")
        self.asked = []
        self.answers = {}  # by path, before .answer
        self.answer = (200, {"Content-Type": "application/json"}, b"{}")
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                endpoint.asked.append(self.path)
                answer = endpoint.answers.get(self.path, endpoint.answer)
                if callable(answer):
                    answer(self)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def leaf(self, folder, name, san):
        crt, key = os.path.join(folder, name + ".crt"), os.path.join(folder, name + ".key")
        ext = os.path.join(folder, name + ".ext")
        with open(ext, "w", encoding="ascii") as f:
            f.write(f"subjectAltName={san}\nbasicConstraints=CA:FALSE\n")
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                      key, "-subj", "/CN=web")
        with open(crt, "wb") as f:
            f.write(openssl("x509", "-req", "-CA", self.ca, "-CAkey", self.ca_key, "-extfile", ext, "-days", "1",
                            data=csr))
        return crt, key

    def says(self, document, status=200, kind="application/json", **headers):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answer = (status, {"Content-Type": kind, **headers}, body)

    @property
    def url(self):
        return f"https://localhost:{self.port}/bundle"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
