/** The package, with the clients that are made kept at hand, so that a test can close them. */
import { createClient as create } from "../../src/index.js";

export * from "../../src/index.js";

export const clients = [];

export function createClient(options) {
  const client = create(options);
  clients.push(client);
  return client;
}
