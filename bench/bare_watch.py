"""The least that a watcher of workspaces can be: bare_watch.py KUBECONFIG. Prints `ready`, then for each event that carries the annotation
`example.com/changed` its value and when its last byte had been read (seconds since 1970).
"""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "test/cluster"))
from api_client import Api  # noqa: E402

PATH = "/apis/molecule.ai/v1alpha1/workspaces"
MARK = b'"example.com/changed":"'

api = Api(sys.argv[1])
version = api.call("GET", PATH + "?limit=1")[1]["metadata"]["resourceVersion"]
events = api.stream(f"{PATH}?watch=1&resourceVersion={version}")
print("ready", flush=True)
for line in events:
    at = time.time()
    place = line.find(MARK)
    if place >= 0:
        value = line[place + len(MARK):line.index(b'"', place + len(MARK))]
        print(value.decode(), f"{at:.6f}", flush=True)
