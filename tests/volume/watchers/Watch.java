// A WatchService on a folder, as Java programs use it: prints each event.
import java.nio.file.*;

public class Watch {
  public static void main(String[] args) throws Exception {
    WatchService watcher = FileSystems.getDefault().newWatchService();
    Path.of(args[0]).register(watcher, StandardWatchEventKinds.ENTRY_CREATE,
        StandardWatchEventKinds.ENTRY_MODIFY, StandardWatchEventKinds.ENTRY_DELETE);
    System.out.println("ready");
    for (;;) {
      WatchKey key = watcher.take();
      for (WatchEvent<?> event : key.pollEvents()) {
        System.out.println(event.kind() + " " + event.context());
      }
      key.reset();
    }
  }
}
