/**
 * The one error class of this package.
 *
 * `code` is a word of PROTOCOL.md §5 or §2.2, or one of the client's own: `refused` (three
 * handshakes with fresh tokens were refused), `closed` (the client was closed), `backend` (of the
 * AI SDK's transport: the page's own backend did not take the turn).
 * `retryable` tells whether the same call may succeed later, unchanged.
 */
export class TailraceError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   * @param {boolean} [retryable]
   */
  constructor(code, message, retryable = false) {
    super(message || code);
    this.name = "TailraceError";
    this.code = code;
    this.retryable = retryable;
  }
}

/** @param {import("./types.js").Failure} failure */
export const errorOf = (failure) => new TailraceError(failure.code, failure.message, failure.retryable);
