"""report: named checks, their outcomes, and what is printed of them."""
import json
import time
import xml.etree.ElementTree as ET

import wire
from der import Bad

MUST, SHOULD = "MUST", "SHOULD"
API, ENDPOINT, X509, JWT, WIT, BUNDLE, ID = ("Workload API", "Workload Endpoint", "X509-SVID", "JWT-SVID", "WIT-SVID",
                                             "Trust Domain and Bundle", "SPIFFE-ID")
CHECKS = []


class Fail(Exception):
    """The server does not do what the check says."""


class Skip(Exception):
    """The check cannot be made here; the text says why."""


class Check:
    def __init__(self, name, standard, section, level, text, function):
        self.name, self.standard, self.section, self.level = name, standard, section, level
        self.text, self.function = text, function


class Result:
    def __init__(self, check, outcome, why, seconds):
        self.check, self.outcome, self.why, self.seconds = check, outcome, why, seconds


def check(name, standard, section, level=MUST):
    """Register a check; its docstring is what the standard asks for."""
    def add(function):
        assert name not in (c.name for c in CHECKS), name
        CHECKS.append(Check(name, standard, section, level, " ".join(function.__doc__.split()), function))
        return function
    return add


def want(claim, why):
    if not claim:
        raise Fail(why)


def run(target, wanted=()):
    """Make each check against @target; yields Results."""
    for one in CHECKS:
        if wanted and not any(one.name == w or one.name.startswith(w + ".") for w in wanted):
            continue
        began, outcome, why = time.monotonic(), "pass", ""
        try:
            one.function(target)
        except Skip as e:
            outcome, why = "skip", str(e)
        except (Fail, wire.Broken, wire.Late, wire.Ended, Bad) as e:
            outcome, why = "fail", str(e)
        except (OSError, ValueError, IndexError, KeyError, TypeError) as e:
            outcome, why = "fail", f"{type(e).__name__}: {e}"
        finally:
            target.tidy()
        yield Result(one, outcome, why, time.monotonic() - began)


def line(r):
    mark = {"pass": "ok  ", "fail": "FAIL", "skip": "skip"}[r.outcome]
    return f"{mark} {r.check.name:28} {r.check.level:6} {r.check.standard} {r.check.section}" + \
        (f": {r.why}" if r.why else "")


def counts(results):
    n = {(o, level): sum(r.outcome == o and r.check.level == level for r in results)
         for o in ("pass", "fail", "skip") for level in (MUST, SHOULD)}
    return (f"{n['pass', MUST] + n['pass', SHOULD]} passed, {n['fail', MUST]} MUST and {n['fail', SHOULD]} SHOULD failed, "
            f"{n['skip', MUST] + n['skip', SHOULD]} skipped")


def as_json(results, where):
    return json.dumps({"endpoint": where, "summary": counts(results), "checks": [
        {"name": r.check.name, "standard": r.check.standard, "section": r.check.section, "level": r.check.level,
         "requirement": r.check.text, "outcome": r.outcome, "why": r.why, "seconds": round(r.seconds, 3)}
        for r in results]}, indent=1)


def as_junit(results, where):
    suite = ET.Element("testsuite", name=f"spiffe-conformance {where}", tests=str(len(results)),
                       failures=str(sum(r.outcome == "fail" for r in results)),
                       skipped=str(sum(r.outcome == "skip" for r in results)))
    for r in results:
        case = ET.SubElement(suite, "testcase", name=r.check.name, time=f"{r.seconds:.3f}",
                             classname=f"{r.check.standard} {r.check.section} {r.check.level}")
        if r.outcome == "fail":
            ET.SubElement(case, "failure", message=r.why).text = r.check.text
        elif r.outcome == "skip":
            ET.SubElement(case, "skipped", message=r.why)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def exit_code(results, strict):
    """0: nothing failed that counts. 1: a MUST failed (strict: anything). 3: nothing could be checked."""
    failed = [r for r in results if r.outcome == "fail" and (strict or r.check.level == MUST)]
    if failed:
        return 1
    return 0 if any(r.outcome == "pass" for r in results) else 3
