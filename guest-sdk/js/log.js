// The run's log: log.info("restarted", { host: "web1" }). The host redacts, bounds and numbers every line.

import { write } from "remit:step/log@0.1.0";

const entry = (level) => (message, fields = {}) =>
  write(level, String(message), Object.entries(fields).map(([name, value]) => [name, String(value)]));

export const debug = entry("debug");
export const info = entry("info");
export const warn = entry("warn");
export const error = entry("error");
