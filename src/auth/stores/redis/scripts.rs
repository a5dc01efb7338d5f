//! What changes several keys of Redis at once, in Lua. A token is written last and deleted first.

use std::sync::LazyLock;

use ::redis::Script;

/// Adds a token to its user, who may be new, and takes away what makes room for it. False: the user has too many.
///
/// Keys: token, tokens, ends, logins, user, users. Arguments: what token keys begin with, hash, user name, record, now, end, end with grace, beginning (of
/// a refresh token; 0 for others), most tokens, most refresh tokens, record and version of a new user.
pub(super) static ADD_TOKEN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local function drop(hash)
            redis.call('DEL', ARGV[1] .. hash)
            redis.call('ZREM', KEYS[2], hash)
            redis.call('ZREM', KEYS[3], hash)
            redis.call('ZREM', KEYS[4], hash)
        end
        if redis.call('ZSCORE', KEYS[2], ARGV[2]) then return 1 end
        for _, hash in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[5])) do drop(hash) end
        if ARGV[8] ~= '0' then
            local over = redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[10])
            for _, hash in ipairs(over >= 0 and redis.call('ZRANGE', KEYS[4], 0, over) or {}) do drop(hash) end
        end
        if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[9]) then return 0 end
        if redis.call('EXISTS', KEYS[5]) == 0 then
            redis.call('HSET', KEYS[5], 'record', ARGV[11], 'version', ARGV[12])
        end
        redis.call('SADD', KEYS[6], ARGV[3])
        redis.call('ZADD', KEYS[2], 0, ARGV[2])
        if ARGV[6] ~= '0' then redis.call('ZADD', KEYS[3], ARGV[6], ARGV[2]) end
        if ARGV[8] ~= '0' then redis.call('ZADD', KEYS[4], ARGV[8], ARGV[2]) end
        redis.call('HSET', KEYS[1], 'record', ARGV[4])
        if ARGV[6] ~= '0' then redis.call('PEXPIREAT', KEYS[1], ARGV[7]) end
        return 1
        ",
    )
});

/// Ends a token. Keys: token, tokens, ends, logins. Arguments: hash.
pub(super) static REMOVE_TOKEN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        redis.call('DEL', KEYS[1])
        redis.call('ZREM', KEYS[2], ARGV[1])
        redis.call('ZREM', KEYS[3], ARGV[1])
        redis.call('ZREM', KEYS[4], ARGV[1])
        ",
    )
});

/// Writes a user's record unless it is another one by now. Keys: user, users. Arguments: the version that was read, record, version, name.
pub(super) static CHANGE_USER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
        redis.call('HSET', KEYS[1], 'record', ARGV[2], 'version', ARGV[3])
        redis.call('SADD', KEYS[2], ARGV[4])
        return 1
        ",
    )
});

/// Forgets a user with all tokens. Keys: user, users, tokens, ends, logins. Arguments: what token keys begin with, name.
pub(super) static REMOVE_USER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for _, hash in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do redis.call('DEL', ARGV[1] .. hash) end
        redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5])
        redis.call('SREM', KEYS[2], ARGV[2])
        ",
    )
});

/// Writes down the day of a token's use, if the token is still there. Keys: token. Arguments: day.
pub(super) static TOUCH_TOKEN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('EXISTS', KEYS[1]) == 0 then return end
        local used = redis.call('HGET', KEYS[1], 'used')
        if not used or tonumber(used) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'used', ARGV[1]) end
        ",
    )
});
