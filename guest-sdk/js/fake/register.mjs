// For unit tests: node --import register.mjs --test. What only a component can import is played by `host.mjs`.

import { register } from "node:module";

register("./resolve.mjs", import.meta.url);
