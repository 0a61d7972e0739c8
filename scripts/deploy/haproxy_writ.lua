-- http-request lua.writ_check URL: ask writ whether this request may pass, with its body.
-- On yes the two headers of writ are set; on no its answer goes to the client as it is, with
-- status 200 where the route's style asks for that (x-writ-status). Without an answer: 503.
local ours = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true, host = true,
  origin = true, expect = true, ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-host"] = true,
  ["x-forwarded-proto"] = true, ["x-original-uri"] = true, ["x-original-url"] = true, ["x-original-method"] = true }

local function finish(txn, status, headers, body)
  local reply = txn:reply()
  reply:set_status(status)
  for name, value in pairs(headers) do
    reply:add_header(name, value)
  end
  reply:set_body(body or "")
  txn:done(reply)
end

local function first(headers, name)
  return headers and headers[name] and (headers[name][0] or headers[name][1])
end

core.register_action("writ_check", { "http-req" }, function(txn, url)
  local headers, seen = {}, txn.http:req_get_headers()
  for name, values in pairs(seen) do
    if not ours[name] then
      headers[name] = {}
      for i = 0, #values do
        if values[i] then
          table.insert(headers[name], values[i])
        end
      end
    end
  end
  local body = txn.sf:req_body() or ""
  local length = tonumber(first(seen, "content-length") or "")
  if first(seen, "transfer-encoding") then
    -- Nobody says where the body ends: what is here may be a part of it.
    return finish(txn, 411, { ["content-type"] = "application/json" },
      '{"error":{"status":411,"code":"length_required"}}')
  end
  if length and length > #body then
    -- More than the buffer holds: writ would judge half of it.
    return finish(txn, 413, { ["content-type"] = "application/json" },
      '{"error":{"status":413,"code":"body_truncated"}}')
  end
  headers["x-forwarded-method"] = { txn.sf:method() }
  headers["x-forwarded-uri"] = { txn.sf:pathq() }
  headers["x-forwarded-host"] = { first(seen, "host") or "" }
  headers["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" }
  local client = core.httpclient()
  local ask = { url = url, headers = headers, timeout = 2000 }
  local answer
  if body ~= "" then
    ask.body = body
    answer = client:post(ask)
  else
    answer = client:get(ask)
  end
  if not answer or not answer.status or answer.status == 0 then
    return finish(txn, 503, { ["content-type"] = "application/json" },
      '{"error":{"status":503,"code":"writ_unreachable"}}')
  end
  if answer.status == 200 then
    txn.http:req_set_header("x-writ-agent", first(answer.headers, "x-writ-agent") or "")
    txn.http:req_set_header("x-writ-decision-id", first(answer.headers, "x-writ-decision-id") or "")
    return
  end
  local back = {}
  for _, name in ipairs({ "content-type", "www-authenticate", "retry-after", "x-writ-reason", "x-writ-decision-id" }) do
    back[name] = first(answer.headers, name)
  end
  finish(txn, tonumber(first(answer.headers, "x-writ-status") or "") or answer.status, back, answer.body)
end, 1)
