// Schemas of input and output: JSON Schema 2020-12, made by functions, and the check of a value against them.

import { Fail } from "./fail.js";

const with_ = (schema, description) => (description ? { ...schema, description } : schema);

export const string = (description) => with_({ type: "string" }, description);
export const integer = (description) => with_({ type: "integer" }, description);
export const number = (description) => with_({ type: "number" }, description);
export const boolean = (description) => with_({ type: "boolean" }, description);
export const any = (description) => with_({}, description);
export const list = (items, description) => with_({ type: "array", items }, description);
export const map = (values, description) => with_({ type: "object", additionalProperties: values }, description);
export const oneOf = (values, description) => with_({ enum: values }, description);

const OPTIONAL = Symbol("optional");

/** A property that may be left out. */
export const optional = (schema) => ({ ...schema, [OPTIONAL]: true });

/** An object of these properties and no others. */
export function object(properties, description) {
  const required = Object.keys(properties).filter((name) => !properties[name][OPTIONAL]);
  return with_({ type: "object", properties, required, additionalProperties: false }, description);
}

const TYPES = {
  string: (value) => typeof value === "string",
  integer: Number.isSafeInteger,
  number: Number.isFinite,
  boolean: (value) => typeof value === "boolean",
  array: Array.isArray,
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

const inside = (path, key) => (path ? `${path}.${key}` : key);

/** Fails with the place where `value` does not fit `schema`, if it does not. */
export function check(schema, value, what = "input", path = "") {
  const misfit = (why) => {
    throw new Fail(`the ${what} does not fit: ${path ? `at \`${path}\`: ` : ""}${why}`);
  };
  if (schema.enum && !schema.enum.includes(value)) misfit(`expected one of ${schema.enum.map((one) => JSON.stringify(one)).join(", ")}`);
  if (schema.type && !TYPES[schema.type](value)) misfit(`expected ${schema.type}, found ${found(value)}`);
  if (schema.type === "array") value.forEach((item, at) => check(schema.items, item, what, `${path}[${at}]`));
  if (schema.type !== "object") return;
  const own = schema.properties ?? {};
  for (const name of schema.required ?? []) if (!Object.hasOwn(value, name)) misfit(`missing field \`${name}\``);
  for (const [key, item] of Object.entries(value)) {
    if (Object.hasOwn(own, key)) check(own[key], item, what, inside(path, key));
    else if (schema.additionalProperties === false) misfit(`unknown field \`${key}\``);
    else check(schema.additionalProperties ?? {}, item, what, inside(path, key));
  }
}

function found(value) {
  if (value === undefined) return "nothing";
  return Object.keys(TYPES).find((type) => TYPES[type](value)) ?? String(value);
}
