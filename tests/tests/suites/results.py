"""Prints each test of a JUnit file: name, space, result. If a name comes twice, the worse result."""
import sys
import xml.etree.ElementTree as ElementTree

results = {}
for test in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
    bad = [part.tag for part in test if part.tag in ("error", "failure", "skipped")]
    name = test.get("name").replace("\n", " ")
    result = bad[0] if bad else "ok" if test.get("result") == "completed" else "unfinished"
    results[name] = max(results.get(name, "ok"), result, key=lambda r: r != "ok")
for name, result in results.items():
    print(name, result)
