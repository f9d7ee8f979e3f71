// Copied to `build/` and called by `remit step build` in the step's folder, above
// which nothing is read: node build/build.mjs COMPONENT. Clocks, random numbers and standard output are there;
// fetch is not, since `http.js` goes through the interface that the world names.

import { writeFileSync } from "node:fs";

import { componentize } from "@bytecodealliance/componentize-js";

try {
  const { component } = await componentize({
    sourcePath: "build/entry.js",
    witPath: "build/wit",
    worldName: "component",
    disableFeatures: ["http", "fetch-event"],
  });
  writeFileSync(process.argv[2], component);
} catch (error) {
  console.error(error?.message ?? error);
  process.exit(1);
}
