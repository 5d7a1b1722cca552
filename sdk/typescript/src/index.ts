/**
 * Asks Checkrein before an AI agent's action runs.
 *
 * ```ts
 * import { Checkrein } from "checkrein";
 * const client = new Checkrein();
 * const deleteUsers = client.guard(async function deleteUsers({ ids }: { ids: number[] }) { … });
 * ```
 */
export {
  Checkrein,
  type CheckOptions,
  type CheckreinOptions,
  type ExecuteOptions,
  type Guarded,
  type SnapshotOptions,
} from "./client.js";
export * from "./errors.js";
export type { CheckFields, GuardOptions } from "./guard.js";
export type { Approval, Approvals, Grant, Grants, Policies, Policy, Sample } from "./management.js";
export type { OnUnreachable } from "./protocol.js";
export {
  type BlastRadius,
  type Drift,
  CheckResult,
  Decision,
  type MatchedPolicy,
  type OutcomeDetails,
  type Status,
  type Verdict,
  type WaitOptions,
} from "./result.js";
export { Refusal } from "./gate.js";
export { guardTools } from "./tools.js";
export { Execution, type OnConflict, type RollbackResult, type Row, type Snapshot } from "./undo.js";
