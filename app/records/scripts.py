"""What the Lua scripts on jobs share: names, the clock, and the moves between states.

Scripts run on one Redis, not on a cluster: they make key names themselves from the owner and the id.
"""

from __future__ import annotations

from app.records import keys

PRELUDE = (
    f"local LEASES, QUEUED = '{keys.LEASES}', '{keys.QUEUED}'\n"
    f"local SEQUENCE, FENCE = '{keys.SEQUENCE}', '{keys.FENCE}'\n"
    """
local owner, id, job, index, member
local function load(an_owner, an_id)
  owner, id = an_owner, an_id
  job, index, member = 'lp:job:' .. owner .. ':' .. id, 'lp:jobs:' .. owner, owner .. '/' .. id
end

-- Redis's own clock, so that no worker's clock matters; as text, because Lua would write 1.7e+12.
local function now(later)
  local t = redis.call('TIME')
  return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + (later or 0))
end

local function active_set()
  return 'lp:video-jobs:' .. owner .. ':' .. redis.call('HGET', job, 'video_id')
end

local function move(status)
  local seq = redis.call('HGET', job, 'seq')
  redis.call('ZREM', index .. ':' .. redis.call('HGET', job, 'status'), id)
  redis.call('ZADD', index .. ':' .. status, seq, id)
  redis.call('HSET', job, 'status', status)
end

-- No lease from here on: whoever held one is refused.
local function unlease()
  redis.call('HDEL', job, 'token', 'worker')
  redis.call('ZREM', LEASES, member)
  redis.call('ZREM', QUEUED, member)
end

local function finish(status, problem)
  move(status)
  unlease()
  redis.call('HSET', job, 'finished_at', now(), 'eta_seconds', '')
  if problem then redis.call('HSET', job, 'error', problem) end
  redis.call('SREM', active_set(), id)
end

-- Back to the queue; or to its end, where a caller asked for that or the attempts are used up.
local function requeue(reason, max_attempts, exhausted)
  if reason ~= '' then redis.call('HSET', job, 'last_reason', reason) end
  if redis.call('HGET', job, 'cancel_requested') == '1' then
    finish('cancelled', nil)
    return 'cancelled'
  end
  if tonumber(redis.call('HGET', job, 'stalled')) >= tonumber(max_attempts) then
    finish('failed', exhausted)
    return 'failed'
  end
  move('queued')
  unlease()
  redis.call('HSET', job, 'fps', '', 'eta_seconds', '')
  redis.call('ZADD', QUEUED, now(), member)
  return 'queued'
end
"""
)
