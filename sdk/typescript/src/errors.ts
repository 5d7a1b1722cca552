/**
 * What can go wrong, as exceptions. Whenever one is thrown, the action has not run (an `UnreachableError` of
 * `execute` or `rollback` says when that is not known).
 *
 * ```
 * CheckreinError
 * ├── PolicyViolationError       the action may not run
 * │   └── ApprovalRequiredError  … until a person approves it
 * ├── UnreachableError           the server could not be asked, or its answer was no answer
 * ├── RateLimitedError           429
 * ├── AuthenticationError        401: no key, or one that the server does not know
 * ├── PermissionDeniedError      403: the key may not do this
 * ├── NotFoundError              404
 * ├── ConflictError              409
 * │   ├── PolicyConflictError    another policy has this name
 * │   └── RollbackConflictError  somebody changed these records since; nothing was restored
 * └── BadRequestError            any other 4xx, or a value that JSON cannot say: the request itself is wrong
 *     ├── PolicyInvalidError     422: the policy does not compile
 *     └── StatementError         422: the database refused the SQL
 * ```
 *
 * `check` throws neither `PolicyViolationError` nor `UnreachableError`: it answers with a result that is blocked.
 */
import type { Decision } from "./result.js";

/** The base of everything that this package throws on purpose, but for wrong settings (`TypeError`). */
export class CheckreinError extends Error {
  override name = "CheckreinError";
  /** The HTTP status, where the server answered. */
  status?: number;
  /** The stable `type` of the server's problem document. */
  type?: string;
  /** The request's id, for the server's log. */
  requestId?: string;
  /** The single problems that the server found, as it sent them. */
  problems: readonly Readonly<Record<string, unknown>>[] = [];
}

/** The action may not run. */
export class PolicyViolationError extends CheckreinError {
  override name = "PolicyViolationError";
  /** `reason`: one sentence for a person. `result`: the decision, where there is one. */
  constructor(
    readonly reason: string,
    readonly result?: Decision,
  ) {
    super(reason);
  }
}

/** The action waits for a person's approval; `result.approvalId` names it. */
export class ApprovalRequiredError extends PolicyViolationError {
  override name = "ApprovalRequiredError";
}

/** The server could not be asked, or what came back was not an answer of Checkrein. */
export class UnreachableError extends CheckreinError {
  override name = "UnreachableError";
}

/** The key has asked too often (429), and the retries were used up. */
export class RateLimitedError extends CheckreinError {
  override name = "RateLimitedError";
}

/** There is no key, or the server does not know it (401). */
export class AuthenticationError extends CheckreinError {
  override name = "AuthenticationError";
}

/** The key may not do this (403). */
export class PermissionDeniedError extends CheckreinError {
  override name = "PermissionDeniedError";
}

/** There is no such thing (404). */
export class NotFoundError extends CheckreinError {
  override name = "NotFoundError";
}

/** It does not fit what is there (409), e.g. an approval that is already decided. */
export class ConflictError extends CheckreinError {
  override name = "ConflictError";
}

/** Another policy has this name, with other content. */
export class PolicyConflictError extends ConflictError {
  override name = "PolicyConflictError";
}

/**
 * Somebody changed records since the action, or the snapshot was never sealed. Nothing was restored.
 *
 * Look at `conflicts`, then roll back with `onConflict` `"skip"` (leave these) or `"force"` (overwrite), and with
 * `planDigest` set to `digest`: it then concerns these conflicts and no others.
 */
export class RollbackConflictError extends ConflictError {
  override name = "RollbackConflictError";
  /** The first ones; each has `resource`, `key`, `kind`, `before`, `after` and `now`. */
  conflicts: readonly Readonly<Record<string, unknown>>[] = [];
  /** All of them. */
  conflictCount = 0;
  /** Names all of them as they are, for `planDigest`. */
  digest: string | undefined;
}

/** The request is wrong, and would be wrong again (400, 413, 422 and other 4xx; a value that is no JSON). */
export class BadRequestError extends CheckreinError {
  override name = "BadRequestError";
}

/** The policy does not compile (422); the message names every problem found. */
export class PolicyInvalidError extends BadRequestError {
  override name = "PolicyInvalidError";
}

/** The database refused a statement of an execution (422). Nothing was changed. */
export class StatementError extends BadRequestError {
  override name = "StatementError";
}
