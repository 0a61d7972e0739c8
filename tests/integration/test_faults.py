#!/usr/bin/env -S python3 -B
"""The disk is full: everything is denied, nothing is answered without a record, and it passes."""
import os
import subprocess
import time

from harness import Deployment, call, check, equal, leaves, main, test

SIZE = 8 * 1024 * 1024


class SmallDisk:
    """A deployment whose data folder is a file system of its own, or None where that is not allowed."""

    def __enter__(self):
        self.d = Deployment()
        os.makedirs(self.d.data, mode=0o711)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "none", self.d.data],
                              capture_output=True, check=False)
        if done.returncode:
            self.d.close()
            return None
        return self.d

    def __exit__(self, *_):
        if self.d.process is not None:
            self.d.stop()
        subprocess.run(["umount", self.d.data], capture_output=True, check=False)


def fill(path):
    """Take all the space there is."""
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def ask_until(d, wanted, seconds=30):
    """Ask until a decision is @wanted; each answer on the way is right in itself."""
    end, seen = time.monotonic() + seconds, []
    while time.monotonic() < end:
        reply = d.evaluate()
        equal(reply.status, 200, f"status of {reply}")
        answer = reply.json
        context = answer["context"]
        if answer["decision"]:
            check("record" in context and "error" not in context, f"a permit without a record: {reply}")
            seen.append(context["record"])
        else:
            equal(context.get("reason"), "audit_unavailable", f"reason of {reply}")
            check("record" not in context and "evaluation_id" not in context, f"a record that is not: {reply}")
            equal(context["error"]["status"], 503, f"error of {reply}")
        if answer["decision"] is wanted:
            return seen
    check(False, f"no decision {wanted} within {seconds} s")
    return seen


@test
def a_full_disk_denies_and_passes():
    with SmallDisk() as d:
        if d is None:
            return  # needs the right to mount
        d.start()
        d.register()
        seen = ask_until(d, True)
        ballast = os.path.join(d.data, "ballast")
        for _ in range(3):
            fill(ballast)
            seen += ask_until(d, False)
            d.wait_for("/readyz", status=503, seconds=10)
            equal(d.http("GET", "/livez").status, 200, "/livez")
            said = d.writ("doctor", code=1).stdout
            check("error: audit: the audit log cannot be written: the disk is full" in said, f"doctor: {said}")
            # Management that would grant something is refused as well: it could not be recorded.
            reply = d.admin("POST", "/v1/agents", {"spiffe_id": "spiffe://example.org/late", "owner": "x"})
            check(reply.status >= 500, f"registered without a record: {reply}")
            os.unlink(ballast)
            seen += ask_until(d, True)
            d.wait_for("/readyz", seconds=10)
        path = d.export()
        done = d.writ("audit", "verify", "--key", d.log_key(), path)
        equal(done.returncode, 0, f"exit code of verify ({done.stdout} {done.stderr})")
        log = leaves(path)
        equal(sorted(log), list(range(len(log))), "sequence numbers")
        check(all(record["seq"] in log for record in seen), "an answered record is missing")


@test
def a_start_on_a_full_disk_fails_or_denies():
    with SmallDisk() as d:
        if d is None:
            return
        d.start()
        d.register()
        d.stop()
        fill(os.path.join(d.data, "ballast"))
        d.spawn()
        end = time.monotonic() + 5
        while time.monotonic() < end and d.process.poll() is None:
            try:
                reply = d.http("POST", "/access/v1/evaluation", call())
                check(reply.status != 200 or not reply.json["decision"], f"a permit: {reply}")
            except OSError:
                pass
            time.sleep(0.1)
        if d.process.poll() is not None:
            d.collect()
        else:
            d.stop()
        os.unlink(os.path.join(d.data, "ballast"))
        d.start()
        equal(d.evaluate().json["decision"], True, "decision with space again")


if __name__ == "__main__":
    main()
