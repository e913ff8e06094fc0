/** The demo's backend: what a backend of yours would offer, and `kill`. */

/**
 * @param {string} name
 * @param {object} [body]
 * @returns {Promise<any>}
 */
async function post(name, body = {}) {
  const response = await fetch(`/api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `The demo's server answered ${response.status}.`);
  return answer;
}

/** @returns {Promise<{url: string, stream: string, questions: string[], lease: number}>} */
export const openSession = () => post("session");

/**
 * A token for this visitor's stream.
 * @param {number} [seconds] to live
 * @returns {Promise<string>}
 */
export const fetchToken = async (seconds) => (await post("token", { seconds })).token;

/**
 * Starts a job that answers.
 * @param {string} question
 * @returns {Promise<string>} the run to watch
 */
export const ask = async (question) => (await post("ask", { question })).run;

/**
 * Kills the job without a warning.
 * @param {string} run
 * @returns {Promise<boolean>} whether there was a living one
 */
export const killJob = async (run) => (await post("kill", { run })).killed;

/**
 * Delivers the job again, as a queue does when a worker has died.
 * @param {string} run
 * @returns {Promise<boolean>} whether the backend still knows it
 */
export const redeliver = async (run) => (await post("redeliver", { run })).started;
