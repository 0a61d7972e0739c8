"""nginx, one worker that answers a constant: what scripts/bench compares with."""
import os
import shutil
import signal
import subprocess
import time

import harness
from harness import check


class Nginx:
    """One worker that answers a constant."""

    def __init__(self, folder):
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        check(os.path.exists(program), "nginx is not installed")
        self.port = harness.free_port()
        self.folder = os.path.join(folder, "nginx")
        os.makedirs(self.folder)
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind}; "
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(os.path.join(self.folder, "nginx.conf"), "w", encoding="utf-8") as f:
            f.write(f"""worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/log;
events {{ worker_connections 2048; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600; {temporary}
default_type application/json;
server {{ listen 127.0.0.1:{self.port} backlog=1024; location / {{ return 200 '{{"decision":true}}'; }} }} }}
""")
        self.process = subprocess.Popen([program, "-p", self.folder, "-c", f"{self.folder}/nginx.conf"],
                                        stderr=subprocess.DEVNULL)
        for _ in range(200):
            if os.path.exists(f"{self.folder}/pid"):
                break
            time.sleep(0.02)

    def close(self):
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
