import assert from "node:assert";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { Monitor } from "./qmp.mjs";

async function start(t, ...options) {
  const folder = mkdtempSync(join(tmpdir(), "qmpd-"));
  const [qmp, control] = [join(folder, "qmp.sock"), join(folder, "control.sock")];
  const line = ["serve", "--socket", qmp, "--control", `unix:${control}`, "--clock", "virtual", ...options];
  const machine = spawn(process.env.QMPD ?? "qmpd", line);
  t.after(() => {
    machine.kill();
    rmSync(folder, { recursive: true });
  });
  await new Promise((resolve) => machine.stdout.once("data", resolve)); // it tells that it listens
  const monitors = [await Monitor.connect(qmp), await Monitor.connect(control)];
  t.after(() => monitors.forEach((each) => each.close()));
  return monitors;
}

test("a reboot is two resets", async (t) => {
  const [monitor, puppeteer] = await start(t, "--guest", "boot-time=5s");
  await puppeteer.execute("clock-run-until-quiet");
  await puppeteer.execute("guest-reboot");
  await puppeteer.execute("clock-run-until-quiet");
  await monitor.execute("query-status");
  assert.deepEqual(monitor.events.filter((each) => each === "RESET").length, 2);
});
