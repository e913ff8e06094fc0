/**
 * What the machine of `machine.js` keeps, and what it commands; no code.
 *
 * @typedef {import("./cursor.js").Reader} Reader
 * @typedef {import("./types.js").Failure} Failure
 *
 * @typedef {"idle" | "token" | "opening" | "syncing" | "live" | "waiting" | "closed"} Phase
 *
 * @typedef {{frame: Extract<import("./types.js").Question, {type: "cancel" | "send"}>, due: number} & Pick<Reader, "gapAt" | "ask" | "tries" | "paused">} Call
 *   It asks as a reader does, until it is answered or due.
 *
 * @typedef {import("./types.js").Question & {at: number, due: number}} Asked
 *   A frame that wants an answer. Replaced, never changed.
 *
 * @typedef {object} Link A connection, or one in the making.
 * @property {Phase} phase
 * @property {number} socket
 * @property {number} due when its phase ends by itself
 * @property {number} n of the last frame sent
 * @property {number} heard when the last frame came
 * @property {Map<number, Asked>} asked and unanswered, by `n`
 * @property {number} misses questions in a row that stayed without an answer
 * @property {Map<string, number>} streams subscribed here, with the `n` that did it
 * @property {number} syncedAt when the last `sync` was sent
 * @property {number} liveAt
 * @property {number} rotateAt
 * @property {number} authAt when to fetch a fresh token
 * @property {number | null} exp of its token, seconds
 * @property {boolean} fresh its token had never been used before
 *
 * @typedef {object} State
 * @property {number} now
 * @property {number} random
 * @property {Command[]} out commands of this step
 * @property {Link[]} links the one in use, and while rotating its successor
 * @property {number} sockets how many were opened
 * @property {Record<string, Reader>} readers
 * @property {Record<string, Call>} calls
 * @property {{value: string, exp: number | null, used: boolean} | null} token
 * @property {number} fetching until when a token that is being fetched is waited for; or 0
 * @property {number} attempt of the reconnect
 * @property {number} triedAt when the last socket was opened
 * @property {number} refusals in a row, each of a fresh token
 * @property {boolean} rejected a handshake with a fresh token failed, nobody knows yet why
 * @property {boolean} online
 * @property {boolean} visible
 * @property {{offset: number, trip: number} | null} aws what to add to `now` for AWS time
 * @property {Failure | null} failure why it is closed
 *
 * @typedef {{type: "token"} | {type: "probe"}
 *   | {type: "connect", socket: number, token: string}
 *   | {type: "close", socket: number}
 *   | {type: "send", socket: number, frame: import("./types.js").ClientFrame}
 *   | ({id: string} & import("./cursor.js").Output)
 *   | {type: "fail", id: string, error: Failure}
 *   | {type: "settle", id: string, answer: object}} Command
 *   `probe`: find out whether the server can be reached although a handshake failed. `fail`:
 *   of a reader or a call; `settle`: a call is answered.
 */
export {};
