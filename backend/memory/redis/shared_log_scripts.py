"""What the Redis server does in one step for gateways that share a fleet: join, renew, fence, append, claim.

Lua for Redis 7. `KEYS[1]` is the prefix of the fleet's keys:
`incarnations` incarnation by gateway name · `members` facts by name · `lease:INCARNATION` · `leader` a name ·
`fenced` set of `NAME INCARNATION` · `seq` newest event number · `epoch` · `events` the stream ·
`batch` newest batch by incarnation · `dead:INCARNATION` who fenced it · `req:ID` claims of request ids.
"""

from __future__ import annotations

JOIN = """
local p, name, incarnation = KEYS[1], ARGV[1], ARGV[2]
redis.call('HSET', p .. 'incarnations', name, incarnation)
redis.call('HSET', p .. 'members', name, ARGV[3])
redis.call('SET', p .. 'lease:' .. incarnation, name, 'PX', ARGV[4])
redis.call('SETNX', p .. 'epoch', ARGV[5])
for _, entry in ipairs(redis.call('SMEMBERS', p .. 'fenced')) do
  if string.sub(entry, 1, #name + 1) == name .. ' ' then redis.call('SREM', p .. 'fenced', entry) end
end
local leader = redis.call('GET', p .. 'leader')
if not leader or leader == name or not redis.call('HGET', p .. 'incarnations', leader) then
  redis.call('SET', p .. 'leader', name)
end
return {redis.call('GET', p .. 'epoch'), tonumber(redis.call('GET', p .. 'seq') or '0')}
"""
"""name, incarnation, facts, lease in ms, an epoch for a fleet without one → epoch, newest event number."""

RENEW_LEASE = """
local p, name, incarnation = KEYS[1], ARGV[1], ARGV[2]
local listed, again = redis.call('HGET', p .. 'incarnations', name), 0
if listed ~= incarnation then
  if listed then return {1} end
  if redis.call('EXISTS', p .. 'dead:' .. incarnation) == 1 then return {0} end
  again = 1
  redis.call('HSET', p .. 'incarnations', name, incarnation)
  redis.call('HSET', p .. 'members', name, ARGV[4])
  redis.call('SETNX', p .. 'epoch', ARGV[5])
end
redis.call('SET', p .. 'lease:' .. incarnation, name, 'PX', ARGV[3])
local leader = redis.call('GET', p .. 'leader')
if not leader or not redis.call('HGET', p .. 'incarnations', leader) then
  leader = name
  redis.call('SET', p .. 'leader', name)
end
local members = {}
local incarnations = redis.call('HGETALL', p .. 'incarnations')
for i = 1, #incarnations, 2 do
  local lease = p .. 'lease:' .. incarnations[i + 1]
  -- the server's clock was set back: the lease of one that died would last until the clock is there again
  if redis.call('PTTL', lease) > tonumber(ARGV[3]) then redis.call('PEXPIRE', lease, ARGV[3]) end
  members[#members + 1] = incarnations[i]
  members[#members + 1] = incarnations[i + 1]
  members[#members + 1] = tostring(redis.call('EXISTS', lease))
  members[#members + 1] = redis.call('HGET', p .. 'members', incarnations[i]) or '{}'
end
return {leader, redis.call('GET', p .. 'epoch') or '', members, redis.call('SMEMBERS', p .. 'fenced'), again}
"""
"""name, incarnation, lease in ms, facts, an epoch → leader, epoch, (name, incarnation, leased, facts) of each member, `fenced`,
1 when the server had forgotten this gateway, as after it was emptied, and lists it again. One number alone when it was fenced: 1 when
another incarnation of its name has come, else 0."""

LEAVE = """
local p, name, incarnation = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', p .. 'incarnations', name) ~= incarnation then return 0 end
redis.call('HDEL', p .. 'incarnations', name)
redis.call('HDEL', p .. 'members', name)
redis.call('HDEL', p .. 'batch', incarnation)
redis.call('DEL', p .. 'lease:' .. incarnation)
if redis.call('GET', p .. 'leader') == name then redis.call('DEL', p .. 'leader') end
return 1
"""
"""name, incarnation: an orderly end; the gateway has ended its turns itself."""

FENCE = """
local p, name, incarnation = KEYS[1], ARGV[1], ARGV[2]
-- one that is not listed was forgotten with the rest when the store was emptied, and has not come back since
local listed = redis.call('HGET', p .. 'incarnations', name)
if listed and listed ~= incarnation or redis.call('EXISTS', p .. 'dead:' .. incarnation) == 1 then return 0 end
if redis.call('EXISTS', p .. 'lease:' .. incarnation) == 1 then return 0 end
redis.call('HDEL', p .. 'incarnations', name)
redis.call('HDEL', p .. 'members', name)
redis.call('HDEL', p .. 'batch', incarnation)
redis.call('SADD', p .. 'fenced', name .. ' ' .. incarnation)
redis.call('SET', p .. 'dead:' .. incarnation, ARGV[3], 'EX', 2592000)
if redis.call('GET', p .. 'leader') == name then redis.call('SET', p .. 'leader', ARGV[3]) end
return 1
"""
"""name and incarnation of a gateway whose lease ran out, the gateway that fences it → 1 when this call did it."""

TAKE_OVER = """
local p, from, to = KEYS[1], ARGV[2], ARGV[3]
if redis.call('SREM', p .. 'fenced', ARGV[1]) == 0 then return {0} end
local rows = redis.call('HGETALL', from)
for i = 1, #rows, 2 do redis.call('HSET', to, rows[i], rows[i + 1]) end
redis.call('DEL', from)
return {1, rows}
"""
"""entry of `fenced`, its hash of open turns, the hash they move to → 1 and the turns; 0 when another took them over."""

APPEND = """
local p, incarnation, batch = KEYS[1], ARGV[1], tonumber(ARGV[2])
local seq = tonumber(redis.call('GET', p .. 'seq') or '0')
if redis.call('GET', p .. 'epoch') ~= ARGV[3] then return {-1, redis.call('GET', p .. 'epoch') or ''} end
if seq < tonumber(ARGV[4]) then return {-2, ''} end
if tonumber(redis.call('HGET', p .. 'batch', incarnation) or '0') >= batch then return {seq, ''} end
redis.call('HSET', p .. 'batch', incarnation, batch)
local count = tonumber(ARGV[5])
local id = string.format('%d-*', seq)
if count > 0 then
  seq = redis.call('INCRBY', p .. 'seq', count)
  id = string.format('%d-0', seq)
end
redis.call('XADD', p .. 'events', 'MINID', '~', math.max(0, seq - tonumber(ARGV[6])), id,
  'o', ARGV[7], 'n', count, 'd', ARGV[8])
return {seq, ''}
"""
"""incarnation, batch, epoch, highest event number known, events, events kept, origin, data → the newest number;
-1 and the epoch in force when it is another, -2 when the server forgot numbers it had given out."""

ROTATE = """
local p = KEYS[1]
local now = redis.call('GET', p .. 'epoch')
-- none is in force: the store was emptied this very moment, before anybody renewed a lease
if not now or now == ARGV[1] then
  redis.call('SET', p .. 'epoch', ARGV[2])
  redis.call('DEL', p .. 'events')
  if tonumber(redis.call('GET', p .. 'seq') or '0') < tonumber(ARGV[3]) then redis.call('SET', p .. 'seq', ARGV[3]) end
end
return redis.call('GET', p .. 'epoch')
"""
"""epoch that ended, a new one, highest event number known → the epoch in force."""

CLAIM = """
redis.call('SET', KEYS[1] .. 'req:' .. ARGV[1], ARGV[2], 'NX', 'EX', ARGV[3])
return redis.call('GET', KEYS[1] .. 'req:' .. ARGV[1])
"""
"""request id, claimer, seconds → who has it."""
