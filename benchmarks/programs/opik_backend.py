"""As much of Opik's backend as an evaluation asks for. Prints its port; keeps nothing but the items of one dataset."""

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATASET = {"id": "01912345-6789-7abc-8def-0123456789ab", "name": "bench"}
items = []


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        path = self.path.split("?")[0]
        said = "{}"
        if path.endswith("/is-alive/ver"):
            said = '{"version": "1.0.0"}'
        elif path.endswith("/datasets/items/stream"):
            asked = json.loads(body)
            said = "" if asked.get("last_retrieved_id") else "".join(json.dumps(item) + "\n" for item in items)
        elif path.endswith("/datasets/items"):
            items.extend(json.loads(body)["items"])
        elif path.endswith("/versions"):
            said = '{"content": [], "total": 0, "page": 1, "size": 0}'
        elif path.endswith(("/datasets/retrieve", f"/datasets/{DATASET['id']}")):
            said = json.dumps({**DATASET, "dataset_items_count": len(items)})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said.encode())))
        self.end_headers()
        self.wfile.write(said.encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
print(server.server_address[1], flush=True)
server.serve_forever()
