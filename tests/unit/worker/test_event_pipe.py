from lando_worker.event_pipe import EventReceiver


def test_events_arrive_however_they_are_cut():
    data = b'{"state": {"step": 1}}\n{"result": {}}\n'
    for size in (1, 7, 100):
        receiver = EventReceiver()
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        events = [event for chunk in chunks for event in receiver.feed(chunk)]
        assert events == [{"state": {"step": 1}}, {"result": {}}]
