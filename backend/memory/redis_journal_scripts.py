"""What the Redis server does in one step for gateways that share a fleet: join, renew, bury, number events, claim.

Lua for Redis 7. `KEYS[1]` is the prefix of the fleet's keys:
`lives` life by gateway name · `members` facts by name · `lease:LIFE` · `leader` a name · `buried` set of `NAME LIFE` ·
`seq` newest number · `epoch` · `events` the stream · `batch` newest batch by life · `req:ID` claims of request ids.
"""

from __future__ import annotations

JOIN = """
local p, name, life = KEYS[1], ARGV[1], ARGV[2]
local old = redis.call('HGET', p .. 'lives', name)
redis.call('HSET', p .. 'lives', name, life)
redis.call('HSET', p .. 'members', name, ARGV[3])
redis.call('SET', p .. 'lease:' .. life, name, 'PX', ARGV[4])
redis.call('SETNX', p .. 'epoch', ARGV[5])
for _, entry in ipairs(redis.call('SMEMBERS', p .. 'buried')) do
  if string.sub(entry, 1, #name + 1) == name .. ' ' then redis.call('SREM', p .. 'buried', entry) end
end
local leader = redis.call('GET', p .. 'leader')
if not leader or leader == name or not redis.call('HGET', p .. 'lives', leader) then
  redis.call('SET', p .. 'leader', name)
end
return {redis.call('GET', p .. 'epoch'), tonumber(redis.call('GET', p .. 'seq') or '0'), old or ''}
"""
"""name, life, facts, lease in ms, an epoch if there is none → epoch, newest number, the life the name had before."""

BEAT = """
local p, name, life = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', p .. 'lives', name) ~= life then return {} end
redis.call('SET', p .. 'lease:' .. life, name, 'PX', ARGV[3])
local leader = redis.call('GET', p .. 'leader')
if not leader or not redis.call('HGET', p .. 'lives', leader) then
  leader = name
  redis.call('SET', p .. 'leader', name)
end
local members = {}
local lives = redis.call('HGETALL', p .. 'lives')
for i = 1, #lives, 2 do
  members[#members + 1] = lives[i]
  members[#members + 1] = lives[i + 1]
  members[#members + 1] = tostring(redis.call('EXISTS', p .. 'lease:' .. lives[i + 1]))
  members[#members + 1] = redis.call('HGET', p .. 'members', lives[i]) or '{}'
end
return {leader, redis.call('GET', p .. 'epoch') or '', members, redis.call('SMEMBERS', p .. 'buried')}
"""
"""name, life, lease in ms → leader, epoch, (name, life, leased, facts) in turn, the buried; nothing when not listed."""

LEAVE = """
local p, name, life = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', p .. 'lives', name) ~= life then return 0 end
redis.call('HDEL', p .. 'lives', name)
redis.call('HDEL', p .. 'members', name)
redis.call('HDEL', p .. 'batch', life)
redis.call('DEL', p .. 'lease:' .. life)
if redis.call('GET', p .. 'leader') == name then redis.call('DEL', p .. 'leader') end
return 1
"""
"""name, life: an orderly end; what it left open was told by itself."""

BURY = """
local p, name, life = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', p .. 'lives', name) ~= life then return 0 end
if redis.call('EXISTS', p .. 'lease:' .. life) == 1 then return 0 end
redis.call('HDEL', p .. 'lives', name)
redis.call('HDEL', p .. 'members', name)
redis.call('HDEL', p .. 'batch', life)
redis.call('SADD', p .. 'buried', name .. ' ' .. life)
if redis.call('GET', p .. 'leader') == name then redis.call('SET', p .. 'leader', ARGV[3]) end
return 1
"""
"""name and life of one whose lease ran out, the gateway that buries → whether it did."""

INHERIT = """
local p, from, to = KEYS[1], ARGV[2], ARGV[3]
if redis.call('SREM', p .. 'buried', ARGV[1]) == 0 then return {0} end
local rows = redis.call('HGETALL', from)
if #rows > 0 then redis.call('HSET', to, unpack(rows)) end
redis.call('DEL', from)
return {1, rows}
"""
"""entry of `buried`, its hash of open turns, the heir's → 1 and the turns, which are the heir's now; 0: another's."""

APPEND = """
local p, life, batch = KEYS[1], ARGV[1], tonumber(ARGV[2])
local seq = tonumber(redis.call('GET', p .. 'seq') or '0')
if redis.call('GET', p .. 'epoch') ~= ARGV[3] then return {-1, redis.call('GET', p .. 'epoch') or ''} end
if seq < tonumber(ARGV[4]) then return {-2, ''} end
if tonumber(redis.call('HGET', p .. 'batch', life) or '0') >= batch then return {seq, ''} end
redis.call('HSET', p .. 'batch', life, batch)
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
"""life, batch, epoch, highest number known, events, events kept, origin, data → the newest number;
-1 and the epoch in force when it is another, -2 when the server forgot numbers it had given out."""

ROTATE = """
local p = KEYS[1]
if redis.call('GET', p .. 'epoch') == ARGV[1] then
  redis.call('SET', p .. 'epoch', ARGV[2])
  redis.call('DEL', p .. 'events')
  if tonumber(redis.call('GET', p .. 'seq') or '0') < tonumber(ARGV[3]) then redis.call('SET', p .. 'seq', ARGV[3]) end
end
return redis.call('GET', p .. 'epoch')
"""
"""epoch that ended, a new one, highest number known → the epoch in force."""

CLAIM = """
redis.call('SET', KEYS[1] .. 'req:' .. ARGV[1], ARGV[2], 'NX', 'EX', ARGV[3])
return redis.call('GET', KEYS[1] .. 'req:' .. ARGV[1])
"""
"""request id, claimer, seconds → who has it."""
