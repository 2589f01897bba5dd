-- One call of one member for one pool of a group: takes its report, and grants it a lease.
--
-- The levels are those of a token bucket (`core/control/bucket.py`), divided. For every resource each member has a
-- purse; the pot is what no member has yet; the level is the sum of them all. Refill flows into the purses by weight.
-- What a full purse cannot take flows into the others. Only when all are full does it flow into the pot, from which
-- every member may draw a little at a time: savings are not for the member that happens to ask first. So a busy
-- member gets the share of idle ones at once, a light member always finds its own, and the purse of a member that has
-- died returns to all. `floor` is the margin for estimates that are off; it stays in the pot.
--
-- The only clock is that of this server. All spans in the request and in the reply are in seconds. The fields of both
-- are described in `budget/wire.py` and `core/model/sharing.py`.
--
-- KEYS: 1 the pool's state, 2 the names of the group's pools.  ARGV: 1 the request, as JSON, 2 the pool's name.

local HOLD = 1.0       -- seconds of a member's share of the refill that fit into its purse
local HALF = 0.5       -- fraction of the capacity that all purses together may hold
local LARGEST = 0.8    -- fraction of the capacity that a member saves up for a request that needs more than that
local FULL = 0.95      -- fraction of the capacity from which waiting earns nothing more, whoever holds it
local SILENT = 10.0    -- seconds without a call after which a member counts as dead
local CUT_OFF = 5.0    -- seconds without any call, though there are members: they were cut off, and continued alone.
                       -- A shorter gap, such as a failover, shows in `returns`. Either way its refill has been used.
local YOUNG = 10.0     -- seconds in which members that remember more may correct a state made from nothing
local SOON = 0.25      -- seconds between calls of a member that is short of something, and between draws from the pot
local LATEST = 0.5     -- the same while nothing is granted: a member that asks too seldom would miss what comes
local LARGE = 25       -- members from which on each asks less often
local CALLS = 100      -- calls per second of such a group: a call takes longer the more members there are
local PROBE = 10.0     -- seconds after which a probe without an outcome does not count
local CUT = 2.0        -- seconds in which several reports of overload count as one
local TURN = 2.0       -- seconds after which, with fewer permits than members, other members get theirs
local FLOW = 10.0      -- seconds over which grants are averaged, for listings
local LASTS = 600      -- seconds after the last call for which a state is kept

local ask = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local state
local stored = redis.call('GET', KEYS[1])
if stored then
  state = cjson.decode(stored)
else
  state = {born = tonumber(clock[1]), at = 0, version = 0, closed = 0, pots = {}, floors = {}, terms = {}, members = {}}
end
local now = tonumber(clock[1]) - state.born + tonumber(clock[2]) / 1000000
local passed = now - state.at
if passed < 0 then  -- a clock set back, by a failover: it earns nothing, and time continues from here
  local shift = math.ceil(-passed)
  state.born, now, passed = state.born - shift, now + shift, 0
end
state.at = now

-- ---- the purses

local weights = 0

local function weigh()
  weights = 0
  for _, member in pairs(state.members) do weights = weights + member.weight end
end

-- The most that a member's purse holds. While its next request waits, the purse keeps filling up to the size of that
-- request, so a member that asks seldom loses nothing.
local function room(member, r)
  local term = state.terms[r]
  local usual = member.weight / weights * math.min(HOLD * term.rate, HALF * term.cap)
  return usual + math.min(member.need[r] or 0, LARGEST * term.cap)
end

local function level(r)
  local sum = state.pots[r]
  for _, member in pairs(state.members) do sum = sum + (member.purse[r] or 0) end
  return sum
end

-- The amount that members may draw from the pot.
local function above_floor(r)
  return math.max(0, state.pots[r] - (state.floors[r] or 0))
end

-- Distribute refill: first up to the floor, then to the purses by weight, then into the pot.
local function pour(r, amount)
  local lacking = (state.floors[r] or 0) - state.pots[r]
  if lacking > 0 then
    local first = math.min(amount, lacking)
    state.pots[r] = state.pots[r] + first
    amount = amount - first
  end
  for _ = 1, 4 do
    local thirsty = 0
    for _, member in pairs(state.members) do
      if (member.purse[r] or 0) < room(member, r) then thirsty = thirsty + member.weight end
    end
    if thirsty == 0 or amount <= 0 then break end
    local left = 0
    for _, member in pairs(state.members) do
      local has, most = member.purse[r] or 0, room(member, r)
      if has < most then
        local part = amount * member.weight / thirsty
        member.purse[r] = math.min(most, has + part)
        left = left + math.max(0, has + part - most)
      end
    end
    amount = left
  end
  state.pots[r] = state.pots[r] + amount
  state.pots[r] = state.pots[r] - math.max(0, level(r) - state.terms[r].cap)
end

-- Apply a correction from response headers. A surplus is for all members.
local function correct(r, amount)
  if amount > 0 then pour(r, amount) else state.pots[r] = state.pots[r] + amount end
end

-- Level out purses that hold too much or owe something, and a pot in debt.
local function tidy(r)
  local floor = state.floors[r] or 0
  for _, member in pairs(state.members) do
    local has = member.purse[r] or 0
    local over = has - room(member, r)
    if over > 0 then
      member.purse[r], state.pots[r] = has - over, state.pots[r] + over
    elseif has < 0 and state.pots[r] > floor then
      local help = math.min(-has, state.pots[r] - floor)
      member.purse[r], state.pots[r] = has + help, state.pots[r] - help
    end
  end
  if state.pots[r] < 0 then
    local held = 0
    for _, member in pairs(state.members) do held = held + math.max(0, member.purse[r] or 0) end
    local part = math.min(1, held > 0 and -state.pots[r] / held or 0)
    for _, member in pairs(state.members) do
      local gives = part * math.max(0, member.purse[r] or 0)
      member.purse[r], state.pots[r] = (member.purse[r] or 0) - gives, state.pots[r] + gives
    end
  end
  state.pots[r] = state.pots[r] - math.max(0, level(r) - state.terms[r].cap)
end

local function forget(id)
  for r, amount in pairs(state.members[id].purse) do
    if state.pots[r] then state.pots[r] = state.pots[r] + amount end
  end
  state.members[id] = nil
  if state.breaker and state.breaker.probe == id then state.breaker.probe = nil end
end

-- ---- the members, and the refill since the last call

local cut_off = (passed > CUT_OFF or ask.returns) and next(state.members) ~= nil
weigh()
for r, term in pairs(state.terms) do
  pour(r, term.rate * (cut_off and 0 or passed))
end
local dead = {}
for id, member in pairs(state.members) do
  if cut_off then member.seen = now end
  if now - member.seen > SILENT then dead[#dead + 1] = id end
end
for _, id in ipairs(dead) do forget(id) end

local me = state.members[ask.id]
local joins = me == nil
if joins then
  me = {purse = {}, flow = {}, seq = 0}
  state.members[ask.id] = me
end
for r, flow in pairs(me.flow) do
  me.flow[r] = flow * math.exp(-(now - me.seen) / FLOW)
end
me.seen, me.weight, me.name, me.need = now, ask.weight, ask.name, ask.head or {}
me.held, me.flying, me.variance = ask.held or {}, ask.flying or {}, ask.variance or {}
me.running, me.waiting = ask.running, ask.waiting
me.binds = ask.binds
me.declared = ask.declared or {}
weigh()

-- ---- the report. One that comes twice counts once.

local news = ask.seq > me.seq
me.seq = math.max(me.seq, ask.seq)
local current = ask.version == state.version

for r, term in pairs(ask.terms or {}) do
  if state.terms[r] == nil then
    state.terms[r] = term
    state.pots[r] = term.cap
    if ask.level then state.pots[r] = math.min(term.cap, ask.level[r] or 0) end
  elseif news and current and ask.changed then
    state.terms[r] = term
  end
end
if news then
  for r, amount in pairs(ask.back or {}) do
    if state.pots[r] then me.purse[r] = (me.purse[r] or 0) + amount end
  end
  if current then
    local corrected = ask.changed
    for r, amount in pairs(ask.fix or {}) do
      if state.pots[r] then correct(r, amount) end
      corrected = true
    end
    if corrected then state.version = state.version + 1 end
  end
  for r, most in pairs(ask.drain or {}) do
    if state.pots[r] then state.pots[r] = state.pots[r] - math.max(0, level(r) - most) end
  end
  if joins and ask.level and now < YOUNG then
    for r, most in pairs(ask.level) do
      if state.pots[r] then state.pots[r] = state.pots[r] - math.max(0, level(r) - most) end
    end
  end
  if ask.closed and now + ask.closed > state.closed then
    state.closed, state.gently = now + ask.closed, ask.gently
  end
  if ask.breaker == 'closed' then
    state.breaker = nil
  elseif ask.breaker == 'open' then
    state.breaker = {opens = now + ask.pause, tripped = now - ask.lasted}
  end
end

if news and ask.cut and now - (state.cut_at or -CUT) >= CUT then
  state.cut_at, state.cuts = now, (state.cuts or 0) + 1
end
if news and ask.growth then
  ask.growth.ends = now + ask.growth.ends
  ask.growth.told = (state.growth and state.growth.told or state.born) + 1  -- new even after a loss of the state
  state.growth = ask.growth
end

-- ---- the requests in flight of all members: the margin, and the amounts that the API has not drawn yet

local function add(sums, amounts)
  for r, amount in pairs(amounts) do sums[r] = (sums[r] or 0) + amount end
end

local held, flying, variance, count = {}, {}, {}, 0  -- of the other members
for id, member in pairs(state.members) do
  count = count + 1
  if id ~= ask.id then
    add(held, member.held)
    add(flying, member.flying)
    add(variance, member.variance)
  end
end
for r, term in pairs(state.terms) do
  local margin = math.min(3 * math.sqrt((variance[r] or 0) + (me.variance[r] or 0)), HALF * term.cap)
  state.floors[r] = math.min(margin + (term.rounding or 0), HALF * term.cap)
  tidy(r)
end

-- ---- the permits, if the group limits its requests in flight
--
-- A permit belongs to its member until the member reports that it does not need it any more, or is dead. So there are
-- never more in use than exist. A member with more in flight than its part starts nothing until enough have ended.

me.most = ask.most
local most
local ids = {}
for id, member in pairs(state.members) do
  ids[#ids + 1] = id
  if member.most then most = math.min(most or member.most, member.most) end
end

-- Divide them by weight among the members that need some. What one does not need is for the others.
local function permits_due()
  table.sort(ids)
  local due, left = {}, most
  for _ = 1, 4 do
    local needing, used = 0, 0
    for _, id in ipairs(ids) do
      local member = state.members[id]
      if (due[id] or 0) < member.running + member.waiting then needing = needing + member.weight end
    end
    if needing == 0 then break end
    for _, id in ipairs(ids) do
      local member, had = state.members[id], due[id] or 0
      local needs = member.running + member.waiting
      if had < needs then
        due[id] = math.min(needs, had + left * member.weight / needing)
        used = used + due[id] - had
      end
    end
    left = left - used
  end
  local whole, first = most, math.floor(now / TURN)
  for id, number in pairs(due) do whole = whole - math.floor(number + 1e-9) end
  for i = 1, #ids do
    local id = ids[(first + i) % #ids + 1]
    local number = math.floor((due[id] or 0) + 1e-9)
    if whole >= 1 and (due[id] or 0) - number > 1e-9 then number, whole = number + 1, whole - 1 end
    if id == ask.id then return number end
  end
end

local permits
if most then
  local due, free = permits_due(), most
  for id, member in pairs(state.members) do
    if id ~= ask.id then free = free - math.max(member.permits or 0, member.running) end
  end
  permits = math.min(due, math.max(0, free))
  -- A state made from nothing knows only the members that have returned. The others may have requests in flight.
  if now < YOUNG and (ask.members or 0) > count then
    permits = math.min(permits, math.max(me.running, math.floor(most / ask.members)))
  end
end
me.permits = permits and math.max(permits, me.running)

-- ---- the lease

local got, again, probe, short = {}, 0, false, nil
local gate = state.closed - now
local breaker = state.breaker
if breaker then
  if breaker.probe == ask.id and ask.probing then breaker.until_ = now + PROBE end
  gate = math.max(gate, breaker.opens - now)
  if gate <= 0 and breaker.probe and breaker.probe ~= ask.id and breaker.until_ > now then gate = math.min(LATEST, breaker.until_ - now) end
end
if ask.leave then
  forget(ask.id)
elseif gate > 0 then
  again = gate
elseif (ask.want and next(ask.want)) or (breaker and ask.probes) then
  ask.want = ask.want or {}  -- a probe may need nothing: enough was granted before, or nothing is limited
  local share, head = me.weight / weights, ask.head or {}
  local may_draw = now - (me.drew or -SOON) >= SOON * (1 - share)
  local part, wait = 1, 0
  for r, amount in pairs(ask.want) do
    local term = state.terms[r]
    if term and amount > 0 then
      local kept = math.min((ask.keep or 0) * term.cap, HALF * share * HOLD * term.rate)
      local own = math.min(me.purse[r] or 0, level(r))  -- a debt of one member is a debt of all
      local all = math.min((me.purse[r] or 0) + above_floor(r), level(r))
      local need = math.min(head[r] or 0, LARGEST * term.cap)
      if level(r) >= FULL * term.cap then need = math.min(need, all - kept) end  -- it will never hold more
      local fraction = math.max(math.min(need, all - kept), (may_draw and all or own) - kept) / amount
      if fraction < part then part, short = math.max(0, fraction), r end
      if need > all - kept then wait = math.max(wait, (need - all + kept) / (term.rate * share)) end
    end
  end
  if wait > 0 then
    again = math.min(LATEST, math.max(SOON, wait))
  else
    for r, amount in pairs(ask.want) do
      local gets = breaker and (head[r] or 0) or math.max(part * amount, head[r] or 0)
      got[r] = gets
      me.flow[r] = (me.flow[r] or 0) + gets / FLOW
      if state.terms[r] then
        local common = math.min(gets - math.min(gets, math.max(0, me.purse[r] or 0)), above_floor(r))
        me.purse[r] = (me.purse[r] or 0) - (gets - common)
        state.pots[r] = state.pots[r] - common
        if common > 0 then me.drew = now end
      end
    end
    if breaker then
      probe, breaker.probe, breaker.until_ = true, ask.id, now + PROBE
    end
    if part < 1 then again = SOON end
  end
end

-- A declared limit holds while the member that declared it is present; of several the smallest holds. The members work
-- out what follows for rate and capacity, and report it.
local least = {}
for _, member in pairs(state.members) do
  for r, says in pairs(member.declared) do
    least[r] = least[r] or {}
    for key, value in pairs(says) do least[r][key] = math.min(least[r][key] or value, value) end
  end
end
for r, term in pairs(state.terms) do
  for _, key in ipairs({'told', 'burst_told'}) do
    local was, is = term[key], least[r] and least[r][key]
    term[key] = is
    if math.abs((was or 0) - (is or 0)) > 1e-6 * (was or is or 0) then state.version = state.version + 1 end
  end
end

if count > LARGE then again = math.max(again, count / CALLS) end
if permits and permits < me.running + me.waiting then again = math.max(again, SOON) end

redis.call('SET', KEYS[1], cjson.encode(state), 'EX', LASTS + math.ceil(math.max(0, gate)))
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], 2 * LASTS)

local growth = state.growth
if growth then growth.ends = growth.ends - now end
local levels = {}
for r in pairs(state.terms) do levels[r] = level(r) end
return cjson.encode({
  got = got, again = again, short = short, probe = probe, version = state.version,
  level = levels, held = held, flying = flying, variance = variance, terms = state.terms, members = count,
  share = weights > 0 and ask.weight / weights or 1,
  closed = math.max(0, state.closed - now), gently = state.gently or false,
  breaker = breaker and {pause = math.max(0, breaker.opens - now), lasted = now - breaker.tripped} or nil,
  cuts = state.cuts or 0, permits = permits,
  growth = growth,
})
