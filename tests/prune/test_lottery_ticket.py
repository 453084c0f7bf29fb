from pathlib import Path

import pytest
import torch
from lottery_networks import network

from trigger_prune.errors import ArtefactError, ModelError
from trigger_prune.prune.lottery.masks import full_masks, magnitude_masks
from trigger_prune.prune.lottery.pretrained import pretrained_ticket
from trigger_prune.prune.lottery.ticket import Ticket, load_ticket, save_ticket
from trigger_prune.prune.lottery.training import network_state


def ticket() -> Ticket:
    return pretrained_ticket(network(2), 0.75, "global", start_step=5, search_steps=21, seed=8)


def test_a_pretrained_ticket_has_mask_and_weights_of_the_network() -> None:
    net, found = network(2), ticket()
    wanted = magnitude_masks(net, full_masks(net), 0.75, "global")
    assert all(torch.equal(found.masks[name], wanted[name]) for name in wanted)
    assert all(torch.equal(found.state[name], value) for name, value in network_state(net).items())
    assert found.sparsity == 0.75 and found.method == "pretrained"


def test_a_stored_ticket_comes_back_bit_for_bit(tmp_path: Path) -> None:
    first = ticket()
    save_ticket(first, tmp_path / "deep" / "ticket.pt")
    second = load_ticket(tmp_path / "deep" / "ticket.pt")
    for one, two in ((first.masks, second.masks), (first.state, second.state)):
        assert list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)
        assert all(one[name].dtype == two[name].dtype for name in one)
    assert (second.method, second.start_step, second.search_steps, second.seed) == ("pretrained", 5, 21, 8)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["ticket.pt"]
    with pytest.raises(ModelError, match="another network"):
        second.load_into(network(batch_norm=False))


def test_files_that_are_no_tickets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ticket.pt"
    with pytest.raises(ArtefactError, match="not a readable ticket"):
        load_ticket(path)
    path.write_text("hello")
    with pytest.raises(ArtefactError, match="not a readable ticket"):
        load_ticket(path)
    torch.save({"format": 99}, path)
    with pytest.raises(ArtefactError, match="no ticket of this version"):
        load_ticket(path)
    made = ticket()
    save_ticket(made, path)
    content = bytearray(path.read_bytes())
    position = bytes(content).find(made.state["first.weight"].numpy().tobytes())
    assert position > 0
    content[position] ^= 0x40
    path.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match="not the ones that were written"):
        load_ticket(path)
