-- One call of one member for one pool of a group: what it has to tell, what it asks, what it gets.
--
-- The levels are those of `core.bucket`, divided: of every resource each member has a purse, what nobody has yet
-- is the pot, and the level is the sum of them all. Refill flows into the purses by weight; what a full purse
-- cannot take flows into the others, and only when all are full into the pot, from which anybody may draw, a
-- little at a time: what has been saved up is not for the one that happens to ask first. So a busy member gets
-- the idle ones' share at once, a light one always finds its own, and whatever a member that died had in its
-- purse goes back. `floor` is the margin for estimates that are off: it stays in the pot.
--
-- Time is that of this server. All spans in the request and in the reply are in seconds.
--
-- KEYS: 1 the pool's state, 2 the names of the group's pools.  ARGV: 1 the request, as JSON, 2 the pool's name.

local HOLD = 1.0       -- seconds of its share of the refill that fit into a member's purse
local HALF = 0.5       -- of the capacity: all purses together hold no more
local LARGEST = 0.8    -- of the capacity: what a member saves up for a request that needs more than that
local FULL = 0.95      -- of the capacity: waiting earns nothing more, even if others have it in their purses
local SILENT = 10.0    -- seconds after which a member is taken to be dead
local CUT_OFF = 5.0    -- seconds without any call, though there are members: they were cut off, and went on alone;
                       -- a shorter gap, such as a failover, is known from who returns: its refill has been used
local YOUNG = 10.0     -- seconds within which members that remember may correct a state made from nothing
local SOON = 0.25      -- seconds between calls of a member that is short of something, and between draws from the pot
local LATEST = 0.5     -- the same while nothing is granted at all: who is not there when more comes gets none of it
local LARGE = 25       -- members from which on they ask less often, all together
local CALLS = 100      -- times a second: a call takes longer the more members there are
local PROBE = 10.0     -- seconds after which a probe of which nothing is heard does not count
local CUT = 2.0        -- seconds between cuts of the windows, at least: all see the same overload
local TURN = 2.0       -- seconds after which, of too few permits for all, others get theirs
local FLOW = 10.0      -- seconds over which what members get is averaged, to be looked at
local LASTS = 600      -- seconds for which a state is kept that nobody asks for

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
if passed < 0 then  -- a clock set back, after a failover: it creates nothing, and from here time goes on
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

-- While it waits for what its next request needs it goes on earning: whoever asks seldom loses nothing by it.
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

-- What anybody may draw from the pot.
local function above_floor(r)
  return math.max(0, state.pots[r] - (state.floors[r] or 0))
end

-- Share out what has been earned.
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

-- The headers tell of more, which is for all, or of less.
local function correct(r, amount)
  if amount > 0 then pour(r, amount) else state.pots[r] = state.pots[r] + amount end
end

-- Put right what has become too much or too little: debts are paid from where there is plenty.
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

-- ---- who is there, and what has been earned since the last call

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

-- ---- what it has to tell. A request that comes twice is told once.

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
  ask.growth.told = (state.growth and state.growth.told or state.born) + 1  -- not one from before all was lost
  state.growth = ask.growth
end

-- ---- what all of them have under way: the margin, and what the server has not drawn yet

local function add(sums, amounts)
  for r, amount in pairs(amounts) do sums[r] = (sums[r] or 0) + amount end
end

local held, flying, variance, count = {}, {}, {}, 0  -- the other members'
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

-- ---- how many requests it may have in flight, if that is limited for the group
--
-- A permit is its member's until that says that it does not use it any more, or is dead; so there are never more
-- in use than there are. Who has more in flight than its part starts nothing until enough of them have ended.

me.most = ask.most
local most
local ids = {}
for id, member in pairs(state.members) do
  ids[#ids + 1] = id
  if member.most then most = math.min(most or member.most, member.most) end
end

-- By weight among those that need some; what one does not need is the others'.
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
  -- A state made from nothing knows only those that have come back; the others may have some in flight.
  if now < YOUNG and (ask.members or 0) > count then
    permits = math.min(permits, math.max(me.running, math.floor(most / ask.members)))
  end
end
me.permits = permits and math.max(permits, me.running)

-- ---- what it gets

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
  ask.want = ask.want or {}  -- for a probe there may be enough already, or nothing limited
  local share, head = me.weight / weights, ask.head or {}
  local may_draw = now - (me.drew or -SOON) >= SOON * (1 - share)
  local part, wait = 1, 0
  for r, amount in pairs(ask.want) do
    local term = state.terms[r]
    if term and amount > 0 then
      local kept = math.min((ask.keep or 0) * term.cap, HALF * share * HOLD * term.rate)
      local own = math.min(me.purse[r] or 0, level(r))  -- what another one owes is owed by all
      local all = math.min((me.purse[r] or 0) + above_floor(r), level(r))
      local need = math.min(head[r] or 0, LARGEST * term.cap)
      if level(r) >= FULL * term.cap then need = math.min(need, all - kept) end  -- more there will never be
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

-- What a user has declared holds while that member is there, and of several the smallest. What follows from it for
-- the rate and the capacity the members work out, and tell.
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
