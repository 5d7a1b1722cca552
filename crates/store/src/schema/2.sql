-- A check's entry says each thing once: what the action has in common with what was asked is said there.
DROP VIEW checks;
CREATE VIEW checks AS SELECT
    log.seq                                                           AS seq,
    strftime('%Y-%m-%dT%H:%M:%fZ', log.at / 1000000.0, 'unixepoch')   AS at,
    log.subject                                                       AS id,
    log.agent                                                         AS agent,
    coalesce(log.body ->> '$.action.action', log.body ->> '$.check.action', log.body ->> '$.check.tool') AS action,
    coalesce(log.body ->> '$.action.resource', log.body ->> '$.check.resource')                         AS resource,
    log.body ->> '$.decision.category'                                AS category,
    log.body ->> '$.decision.environment'                             AS environment,
    log.body ->> '$.decision.verdict'                                 AS verdict,
    log.body ->> '$.decision.blast_radius.records'                    AS records,
    log.body ->> '$.decision.reason'                                  AS reason
FROM log WHERE log.kind = 'check';
