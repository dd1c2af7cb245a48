"""watchdog on a folder: prints each event."""

import sys
import time

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer


class Printer(FileSystemEventHandler):
    def on_any_event(self, event):
        print(event.event_type, event.src_path, getattr(event, "dest_path", ""), flush=True)


observer = Observer()
observer.schedule(Printer(), sys.argv[1])
observer.start()
print("ready", flush=True)
while True:
    time.sleep(60)
