"""What the Redis server does in one step: each script is one change that happens whole or not at all.

Lua for Redis 7. `KEYS[1]` is the prefix of all keys; a script knows the key names below and nothing of the texts.

`m` messages by id · `s:ID` a session · `sm:ID` its messages · `sa:ID:AUTHOR` those of an author · `sx:ID` its authors ·
`sp:ID` its pinned ones · `om:OWNER` messages of an owner · `r:REQUEST` of a turn · `time` unpinned messages by age ·
`wN:STEM` messages with a word of this stem, of index version N · `words` all `WORD STEM` · `index_version`, `indexed_from` of these two ·
`sessions`, `so:OWNER` sessions by last use · `titles` what a search for titles compares, by session · `unpacked` sessions to
pack · `defaults` default session by owner ·
`dying` sessions being removed · `pinned` ids · `booked` names of turns by when they were booked.
"""

from __future__ import annotations

from backend.memory import terms

stems = f"w{terms.INDEX_VERSION}:"
"""What the names of the sets of stems begin with: an index of another version keeps apart from this one."""

CREATE = """
local p, owner, as_default = KEYS[1], ARGV[2], ARGV[4] == '1'
if as_default then
  local known = redis.call('HGET', p .. 'defaults', owner)
  if known then return known end
  redis.call('HSET', p .. 'defaults', owner, ARGV[1])
end
local member = string.format('%016d:', redis.call('INCR', p .. 'n:session')) .. ARGV[1]
redis.call('HSET', p .. 's:' .. ARGV[1], 'member', member, 'owner', owner, 'title', ARGV[3], 'created_at', ARGV[5],
  'updated_at', ARGV[5], 'messages', 0, 'archived', '0', 'preview', '', 'provider', '', 'model', '')
if ARGV[3] ~= '' then redis.call('HSET', p .. 'titles', ARGV[1], '-' .. ARGV[6]) end
redis.call('ZADD', p .. 'sessions', ARGV[5], member)
redis.call('ZADD', p .. 'so:' .. owner, ARGV[5], member)
return ARGV[1]
"""
"""id, owner, title, is_default (0/1), now, folded title → the id made, or the default there was."""

SESSIONS = """
local p, found = KEYS[1], {}
for n, id in ipairs(ARGV) do
  local row = redis.call('HMGET', p .. 's:' .. id, 'title', 'owner', 'created_at', 'updated_at', 'messages', 'archived',
    'preview', 'provider', 'model')
  if row[2] then
    row[#row + 1] = redis.call('HGET', p .. 'defaults', row[2]) == id and '1' or '0'
    found[n] = cjson.encode(row)
  else
    found[n] = ''
  end
end
return found
"""
"""ids → for each the session's fields and whether it is its owner's default (0/1), as a JSON list of texts; "" without session.

One text a session: the client library takes far longer to read ten. A default is a fact of the owner, not of the session: kept in
one place, it cannot be two."""

PATCH = """
local p, s = KEYS[1], KEYS[1] .. 's:' .. ARGV[1]
local owner = redis.call('HGET', s, 'owner')
if not owner then return 0 end
local folded
for i = 2, #ARGV, 2 do
  if ARGV[i] == 'folded' then
    folded = ARGV[i + 1]
  elseif ARGV[i] == 'is_default' then
    if ARGV[i + 1] == '1' then
      redis.call('HSET', p .. 'defaults', owner, ARGV[1])
    elseif redis.call('HGET', p .. 'defaults', owner) == ARGV[1] then
      redis.call('HDEL', p .. 'defaults', owner)
    end
  else
    redis.call('HSET', s, ARGV[i], ARGV[i + 1])
  end
end
local known = redis.call('HGET', p .. 'titles', ARGV[1])
if folded or known then
  local facts = redis.call('HMGET', s, 'title', 'archived')
  if facts[1] == '' then
    redis.call('HDEL', p .. 'titles', ARGV[1])
  else
    redis.call('HSET', p .. 'titles', ARGV[1], (facts[2] == '1' and 'a' or '-') .. (folded or string.sub(known, 2)))
  end
end
return 1
"""
"""id, then field and value in turn, with a title also `folded` → 0 when there is no such session."""

REMOVE_SESSION = """
local p, s = KEYS[1], KEYS[1] .. 's:' .. ARGV[1]
local facts = redis.call('HMGET', s, 'member', 'owner', 'messages', 'updated_at')
if not facts[1] then return 0 end
local default = redis.call('HGET', p .. 'defaults', facts[2]) == ARGV[1]
if ARGV[2] ~= '' and (default or tonumber(facts[3]) > 0 or tonumber(facts[4]) >= tonumber(ARGV[2])) then return 0 end
redis.call('DEL', s)
redis.call('ZREM', p .. 'sessions', facts[1])
redis.call('ZREM', p .. 'so:' .. facts[2], facts[1])
redis.call('ZREM', p .. 'unpacked', ARGV[1])
redis.call('HDEL', p .. 'titles', ARGV[1])
if default then redis.call('HDEL', p .. 'defaults', facts[2]) end
redis.call('HSET', p .. 'dying', ARGV[1], facts[2])
return 1
"""
"""id, "" or the time before which it must have been left empty → 1 when it went. Its messages are dropped after."""

FORGET_SESSION = """
local p, id = KEYS[1], ARGV[1]
for _, author in ipairs(redis.call('SMEMBERS', p .. 'sx:' .. id)) do redis.call('DEL', p .. 'sa:' .. id .. ':' .. author) end
redis.call('DEL', p .. 'sx:' .. id, p .. 'sm:' .. id, p .. 'sp:' .. id)
return redis.call('HDEL', p .. 'dying', id)
"""
"""id of a removed session whose messages are all dropped."""

_BOOK = """
local function book(from)
  local row = KEYS[1] .. 'u:' .. ARGV[from]
  redis.call('ZADD', KEYS[1] .. 'usage', 0, ARGV[from])
  redis.call('HINCRBY', row, 'tokens_in', ARGV[from + 1])
  redis.call('HINCRBY', row, 'tokens_out', ARGV[from + 2])
  redis.call('HINCRBYFLOAT', row, 'cost', ARGV[from + 3])
  redis.call('HINCRBY', row, 'turns', ARGV[from + 4])
  redis.call('HINCRBY', row, 'unpriced', ARGV[from + 5])
end
"""
"""Adds the figures that stand in the arguments from a place on to their row."""

BOOK = (
    _BOOK
    + """
if redis.call('ZADD', KEYS[1] .. 'booked', 'NX', ARGV[2], ARGV[1]) == 0 then return 0 end
if ARGV[3] then book(3) end
return 1
"""
)
"""name of the turn, now, and what it used, if anything → 0 when it was booked before."""

_INDEX = """
local function index(id, from)
  local p, words = KEYS[1], {}
  for i = from, #ARGV do
    redis.call('ZADD', p .. 'STEMS' .. string.match(ARGV[i], ' (.*)'), id, id)
    words[#words + 1] = 0
    words[#words + 1] = ARGV[i]
    if #words == 1000 or i == #ARGV then
      redis.call('ZADD', p .. 'words', unpack(words))
      words = {}
    end
  end
end
""".replace("STEMS", stems)
"""Indexes a message under the words that stand in the arguments from a place on."""

APPEND = (
    _BOOK
    + _INDEX
    + """
local p, sid = KEYS[1], ARGV[1]
local s = p .. 's:' .. sid
local facts = redis.call('HMGET', s, 'member', 'owner', 'updated_at', 'title', 'archived')
if not facts[1] then return 0 end
if ARGV[9] ~= '' and ARGV[10] == '' and redis.call('HDEL', ARGV[9], ARGV[5]) == 0 then
  for _, known in ipairs(redis.call('ZRANGE', p .. 'r:' .. ARGV[5], 0, -1, 'REV')) do
    if redis.call('ZSCORE', p .. 'sa:' .. sid .. ':' .. ARGV[3], known) then return known end
  end
end
local id = redis.call('INCR', p .. 'n:message')
redis.call('HSET', p .. 'm', id, ARGV[2])
redis.call('ZADD', p .. 'sm:' .. sid, id, id)
redis.call('ZADD', p .. 'sa:' .. sid .. ':' .. ARGV[3], id, id)
redis.call('SADD', p .. 'sx:' .. sid, ARGV[3])
redis.call('ZADD', p .. 'om:' .. facts[2], id, id)
if ARGV[5] ~= '' then redis.call('ZADD', p .. 'r:' .. ARGV[5], id, id) end
if ARGV[6] == '1' then
  redis.call('SADD', p .. 'pinned', id)
  redis.call('ZADD', p .. 'sp:' .. sid, id, id)
else
  redis.call('ZADD', p .. 'time', ARGV[4], id)
end
redis.call('HINCRBY', s, 'messages', 1)
local updated = facts[3]
if tonumber(ARGV[4]) > tonumber(updated) then
  updated = ARGV[4]
  redis.call('HSET', s, 'updated_at', updated)
  redis.call('ZADD', p .. 'sessions', updated, facts[1])
  redis.call('ZADD', p .. 'so:' .. facts[2], updated, facts[1])
end
redis.call('ZADD', p .. 'unpacked', updated, sid)
if ARGV[7] ~= '' then redis.call('HSET', s, 'preview', ARGV[7]) end
if facts[4] == '' and ARGV[8] ~= '' then
  redis.call('HSET', s, 'title', ARGV[8])
  redis.call('HSET', p .. 'titles', sid, (facts[5] == '1' and 'a' or '-') .. ARGV[17])
end
if ARGV[10] ~= '' then redis.call('HSET', ARGV[9], unpack(cjson.decode(ARGV[10]))) end
if ARGV[11] ~= '' then book(11) end
index(id, 18)
return id
"""
)
"""session, message, author, created_at, request, pinned (0/1), preview, title, key of the open turns or "", JSON list of
ids and records of turns to open or "" to close this one, row name of what to book or "" and its five figures, folded title, `WORD STEM` …
→ its id, 0 without session; where the turn to close is closed already, the id of the author's message of this request."""

REPLACE = (
    _BOOK
    + _INDEX
    + """
local p, id, s = KEYS[1], ARGV[1], KEYS[1] .. 's:' .. ARGV[2]
local updated = redis.call('HGET', s, 'updated_at')
if not updated or redis.call('HGET', p .. 'm', id) ~= ARGV[3] then return 0 end
redis.call('HSET', p .. 'm', id, ARGV[4])
redis.call('ZADD', p .. 'unpacked', updated, ARGV[2])
if ARGV[5] ~= '' and redis.call('ZRANGE', p .. 'sm:' .. ARGV[2], -1, -1)[1] == id then redis.call('HSET', s, 'preview', ARGV[5]) end
if ARGV[6] ~= '' then book(6) end
local last = 12 + tonumber(ARGV[12])
for i = 13, last do
  local ids = p .. 'STEMS' .. string.match(ARGV[i], ' (.*)')
  redis.call('ZREM', ids, id)
  if redis.call('EXISTS', ids) == 0 then redis.call('ZREM', p .. 'words', ARGV[i]) end
end
index(id, last + 1)
return 1
""".replace("STEMS", stems)
)
"""message, session, the message as it is stored, as it is to be, preview, row name of what to book or "" and its five figures, how
many words it loses, these as `WORD STEM` …, those it has → 0 when it was changed meanwhile, or its session is gone."""

PIN = """
local p, id, sid = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HEXISTS', p .. 'm', id) == 0 then return 0 end
if ARGV[3] == '1' then
  redis.call('SADD', p .. 'pinned', id)
  redis.call('ZADD', p .. 'sp:' .. sid, id, id)
  redis.call('ZREM', p .. 'time', id)
else
  redis.call('SREM', p .. 'pinned', id)
  redis.call('ZREM', p .. 'sp:' .. sid, id)
  redis.call('ZADD', p .. 'time', ARGV[4], id)
end
return 1
"""
"""message, session, pinned (0/1), created_at → 0 when there is no such message."""

DROP = """
local p, id, sid = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HDEL', p .. 'm', id) == 0 then return 0 end
redis.call('ZREM', p .. 'sm:' .. sid, id)
redis.call('ZREM', p .. 'sa:' .. sid .. ':' .. ARGV[4], id)
redis.call('ZREM', p .. 'sp:' .. sid, id)
redis.call('ZREM', p .. 'om:' .. ARGV[3], id)
redis.call('ZREM', p .. 'time', id)
redis.call('SREM', p .. 'pinned', id)
if ARGV[5] ~= '' then redis.call('ZREM', p .. 'r:' .. ARGV[5], id) end
if redis.call('EXISTS', p .. 's:' .. sid) == 1 then redis.call('HINCRBY', p .. 's:' .. sid, 'messages', -1) end
for i = 6, #ARGV do
  local ids = p .. 'STEMS' .. string.match(ARGV[i], ' (.*)')
  redis.call('ZREM', ids, id)
  if redis.call('EXISTS', ids) == 0 then redis.call('ZREM', p .. 'words', ARGV[i]) end
end
return 1
""".replace("STEMS", stems)
"""message, session, owner, author, request, `WORD STEM` … → 1 when it went."""

BEGIN_INDEX = """
local p = KEYS[1]
if redis.call('GET', p .. 'index_version') ~= ARGV[1] then
  redis.call('SET', p .. 'index_version', ARGV[1])
  redis.call('DEL', p .. 'words')
  local last = tonumber(redis.call('GET', p .. 'n:message') or '0')
  if last > 0 then redis.call('SET', p .. 'indexed_from', last + 1) end
end
return redis.call('EXISTS', p .. 'indexed_from')
"""
"""index version → whether older messages are to be indexed."""

INDEX = (
    _INDEX
    + """
local id = ARGV[1]
if redis.call('HEXISTS', KEYS[1] .. 'm', id) == 0 then return 0 end
index(id, 2)
return 1
"""
)
"""message, `WORD STEM` … ; one that was deleted meanwhile stays out."""

INDEXED = """
local key = KEYS[1] .. 'indexed_from'
if redis.call('GET', key) == ARGV[1] then
  if ARGV[2] == '0' then redis.call('DEL', key) else redis.call('SET', key, ARGV[2]) end
end
return redis.call('EXISTS', key)
"""
"""the id indexing went back from, the first id that is indexed now → whether there are older messages to index."""

REPACK = """
if redis.call('HEXISTS', KEYS[1] .. 'm', ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1] .. 'm', ARGV[1], ARGV[2])
return 1
"""
"""message, its packed form; one that was deleted meanwhile stays deleted."""

FIND = """
local p, groups = KEYS[1], cjson.decode(ARGV[1])
local want, look, before, without = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local best, least
for g, names in ipairs(groups) do
  local n = 0
  for _, name in ipairs(names) do n = n + redis.call('ZCARD', p .. name) end
  if n == 0 then return {1} end
  if not least or n < least then best, least = g, n end
end
local seen, ids, all_seen = {}, {}, 1
for _, name in ipairs(groups[best]) do
  local newest = redis.call('ZRANGE', p .. name, before, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, look)
  if #newest == look then all_seen = 0 end
  for _, id in ipairs(newest) do
    if not seen[id] then seen[id] = true; ids[#ids + 1] = tonumber(id) end
  end
end
table.sort(ids, function(a, b) return a > b end)
local found = {}
for i, id in ipairs(ids) do
  if i > look then all_seen = 0; break end
  if #found == want then break end
  local all = without == '' or not redis.call('ZSCORE', p .. without, id)
  for g, names in ipairs(groups) do
    if not all then break end
    local any = g == best
    for _, name in ipairs(names) do
      if any then break end
      any = redis.call('ZSCORE', p .. name, id)
    end
    all = any
  end
  if all then found[#found + 1] = id end
end
found[#found + 1] = all_seen
return found
"""
"""groups of sets as JSON, most results, most looked at, below which id (`(ID` or +inf), a set to leave out or "" →
newest ids that are in one set of every group at least, then 0 when older ones were not looked at, else 1."""

LIST = """
local p, all, needle, want, listed, ids, found = KEYS[1], ARGV[4] == '1', ARGV[5], tonumber(ARGV[6]), {}, {}, {0}
for i = 7, #ARGV do listed[ARGV[i]] = true end
for n, member in ipairs(redis.call('ZRANGE', p .. ARGV[1], ARGV[2], ARGV[2] + ARGV[3] - 1, 'REV')) do
  ids[n] = string.sub(member, 18)
end
for first = 1, #ids, 1000 do
  local last = math.min(first + 999, #ids)
  local entries = redis.call('HMGET', p .. 'titles', unpack(ids, first, last))
  for n = first, last do
    local id, entry, may, archived = ids[n], entries[n - first + 1]
    found[1] = n
    if entry then
      archived, may = string.byte(entry) == 97, listed[id] or string.find(entry, needle, 2, true)
    else
      local facts = redis.call('HMGET', p .. 's:' .. id, 'title', 'archived')
      archived, may = facts[2] == '1', facts[1] and (listed[id] or string.find(facts[1], '[\\128-\\255]')
        or string.find(string.lower(facts[1]), needle, 1, true))
    end
    if may and (all or not archived) then found[#found + 1] = id end
    if #found > want then return found end
  end
end
return found
"""
"""sorted set of sessions, first place, how many to look at, archived ones too (0/1), folded part of a title, how many are
wanted, ids of sessions … → how many were looked at, then the ids of those listed, or whose title may have the part.

One look into one hash stands for a thousand sessions. A session that is not in `titles` has no title, or one of a gateway that does
not know of `titles`: it is looked at by itself."""

CHECK_TITLES = """
local p, other = KEYS[1], {}
for _, id in ipairs(ARGV) do
  local title, archived = unpack(redis.call('HMGET', p .. 's:' .. id, 'title', 'archived'))
  local entry = redis.call('HGET', p .. 'titles', id)
  if not title or title == '' then
    if entry then redis.call('HDEL', p .. 'titles', id) end
  elseif not entry or string.sub(entry, -#title - 1) ~= '\\n' .. title then
    other[#other + 1] = id
    other[#other + 1] = title
  elseif string.sub(entry, 1, 1) ~= (archived == '1' and 'a' or '-') then
    redis.call('HSET', p .. 'titles', id, (archived == '1' and 'a' or '-') .. string.sub(entry, 2))
  end
end
return other
"""
"""ids of sessions … → id and title of those whose title is not the one in `titles`; what else is wrong there is put right."""

LIST_TITLE = """
local p, title, archived = KEYS[1], unpack(redis.call('HMGET', KEYS[1] .. 's:' .. ARGV[1], 'title', 'archived'))
if title ~= ARGV[2] then return 0 end
redis.call('HSET', p .. 'titles', ARGV[1], (archived == '1' and 'a' or '-') .. ARGV[3])
return 1
"""
"""id, its title, that folded → 0 when it has another title by now."""

RECORD_ERROR = """
local p, now = KEYS[1], ARGV[2]
local id = redis.call('HGET', p .. 'open_errors', ARGV[1])
if id then
  local e = p .. 'e:' .. id
  redis.call('HINCRBY', e, 'count', ARGV[9])
  redis.call('HSET', e, 'last', now, 'phase', ARGV[6], 'request_id', ARGV[8])
  if ARGV[7] ~= '' then redis.call('HSET', e, 'evidence', ARGV[7]) end
else
  id = tostring(redis.call('INCR', p .. 'n:error'))
  redis.call('HSET', p .. 'e:' .. id, 'id', id, 'key', ARGV[1], 'where', ARGV[3], 'code', ARGV[4], 'message', ARGV[5],
    'first', ARGV[10], 'last', now, 'count', ARGV[9], 'phase', ARGV[6], 'evidence', ARGV[7], 'request_id', ARGV[8],
    'acknowledged', '0')
  redis.call('HSET', p .. 'open_errors', ARGV[1], id)
end
local member = string.format('%016d', tonumber(id))
redis.call('ZADD', p .. 'errors', now, member)
redis.call('ZADD', p .. 'errors:' .. ARGV[3], now, member)
return redis.call('HGETALL', p .. 'e:' .. id)
"""
"""identity, time of the last, where, code, message, phase, evidence, request, count, time of the first → the record's fields."""

ACKNOWLEDGE = """
local p, ids = KEYS[1], {}
if ARGV[2] == 'all' then
  ids = redis.call('HVALS', p .. 'open_errors')
else
  for i = 2, #ARGV do ids[#ids + 1] = ARGV[i] end
end
local marked = {}
for _, id in ipairs(ids) do
  local facts = redis.call('HMGET', p .. 'e:' .. id, 'key', 'acknowledged')
  if facts[1] and facts[2] == '0' then
    redis.call('HSET', p .. 'e:' .. id, 'acknowledged', ARGV[1])
    redis.call('HDEL', p .. 'open_errors', facts[1])
    marked[#marked + 1] = tonumber(id)
  end
end
table.sort(marked)
return marked
"""
"""time, then ids or the word all → ids newly marked."""

DROP_ERROR = """
local p, e = KEYS[1], KEYS[1] .. 'e:' .. ARGV[1]
local facts = redis.call('HMGET', e, 'where', 'acknowledged', 'key')
if not facts[1] or (facts[2] == '0') ~= (ARGV[2] == '1') then return 0 end
if facts[2] == '0' then redis.call('HDEL', p .. 'open_errors', facts[3]) end
local member = string.format('%016d', tonumber(ARGV[1]))
redis.call('ZREM', p .. 'errors', member)
redis.call('ZREM', p .. 'errors:' .. facts[1], member)
redis.call('DEL', e)
return 1
"""
"""id, whether it is one that nobody has acknowledged (0/1) → 1 when it went, 0 when it is one of the others."""
