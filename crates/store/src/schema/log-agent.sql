-- What an agent did last is found without looking through what all the others did.
CREATE INDEX log_agent ON log (agent) WHERE kind = 'check';
