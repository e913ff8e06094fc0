/**
 * Properties draw the same in every run, so that what fails was failed by a change.
 * `TAILRACE_SEED` names another seed: give it `$RANDOM` to look further.
 */
import fc from "fast-check";

fc.configureGlobal({ seed: Number(process.env.TAILRACE_SEED ?? 1), includeErrorInReport: true });
