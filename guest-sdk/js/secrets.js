// Values of secrets, asked for with `[[reveal]]`. Most steps do not want this: the runner itself puts secrets where they are
// used. Each call is recorded, and the run is marked as having seen the value.

import { get as reveal } from "remit:secrets/reveal@0.1.0";
import { asked } from "./fail.js";

/** The value of the secret that the job bound to `name`, as text. */
export const get = (name) => asked(() => reveal(name));
