// The least of a QMP client for Node. qmpd's control socket speaks alike.
import net from "node:net";
import readline from "node:readline";

export class Monitor {
  static async connect(path) {
    const socket = net.connect(path);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const monitor = new Monitor(socket);
    await monitor.read(); // the greeting
    await monitor.execute("qmp_capabilities");
    return monitor;
  }

  constructor(socket) {
    this.socket = socket;
    this.events = [];
    this.lines = readline.createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  async read() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error("the monitor is closed");
    return JSON.parse(value);
  }

  async execute(name, args) {
    this.socket.write(JSON.stringify({ execute: name, arguments: args }) + "\n");
    for (;;) {
      const message = await this.read();
      if (message.event) this.events.push(message.event);
      else if (message.error) throw new Error(message.error.desc);
      else return message.return;
    }
  }

  close() {
    this.socket.destroy();
  }
}
