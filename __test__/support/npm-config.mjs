// Configuration files of the npm clients.

/** An .npmrc for `registryUrl` (which ends with a slash), with the token when one is given. */
export function npmrc(registryUrl, token, more = {}) {
  const lines = {
    registry: registryUrl,
    ...(token ? { [`${registryUrl.replace(/^http:/, '')}:_authToken`]: token } : {}),
    fund: false,
    'update-notifier': false,
    // A refusal shall be seen at once, not after the retries that a server error gets.
    'fetch-retries': 0,
    ...more,
  };
  return Object.entries(lines).map(([key, value]) => `${key}=${value}\n`).join('');
}
